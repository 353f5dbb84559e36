"""Mixtures of experts that are balanced by a bias: it moves after each optimizer step."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class BalanceExperts(TrainerCallback):
    """Moves the biases of the from-scratch models' routers; other models are left alone."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Once per optimizer step, on every rank."""
        from pipeline.models.experts import balance_experts

        if model is not None:
            balance_experts(model)
