"""Mixtures of experts: their biases move after each optimizer step, and in the end it is told who took which tokens."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

ROUTING = "routing.json"
"""Rows of the table of experts: layer, expert, share of the choices, the tokens that are most its own."""
MOST_ROWS = 64
"""Rows that are read for the table."""


class BalanceExperts(TrainerCallback):
    """Moves the biases of the from-scratch models' routers; other models are left alone."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Once per optimizer step, on every rank."""
        from pipeline.models.experts import balance_experts

        if model is not None:
            balance_experts(model)


def save_routing(model: Any, tokenizer: Any, rows: Any, out: Path) -> None:
    """Write which tokens of some rows each expert took, layer by layer; nothing for a model without our routers."""
    import torch

    from pipeline.models.experts import Router
    from pipeline.models.routing import record_routing

    if not any(isinstance(module, Router) for module in model.modules()):
        return
    model.eval()
    with torch.no_grad(), record_routing(model) as routing:
        for row in rows.select(range(min(len(rows), MOST_ROWS))):
            model(input_ids=torch.tensor([row["input_ids"]], device=model.device), use_cache=False)
    table = routing.table(lambda token: tokenizer.decode([token]))
    (out / ROUTING).write_text(json.dumps(table, ensure_ascii=False) + "\n", encoding="utf-8")
