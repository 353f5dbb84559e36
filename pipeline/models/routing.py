"""Which tokens each expert takes, layer by layer: counted while a model runs, told as rows of a table."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .experts import Router
from .model import ProvetuneModel


@dataclass
class Routing:
    """Counts of (expert, token id) for each layer with experts, in the order of the layers."""

    counts: dict[str, Counter[tuple[int, int]]] = field(default_factory=dict)
    experts: dict[str, int] = field(default_factory=dict)

    def shares(self) -> dict[str, list[float]]:
        """Part of the choices that each expert took, by layer; equal parts when perfectly balanced."""
        found = {}
        for layer, counts in self.counts.items():
            taken = [0] * self.experts[layer]
            for (expert, _), count in counts.items():
                taken[expert] += count
            found[layer] = [part / max(1, sum(taken)) for part in taken]
        return found

    def table(self, decode: Callable[[int], str], top: int = 5) -> list[dict[str, Any]]:
        """One row for each layer and expert: its share, and the tokens that it takes more than any other expert does.

        Tokens are ordered by how many of their occurrences came to this expert, then by how often they occur.
        """
        rows = []
        for layer, shares in self.shares().items():
            seen: Counter[int] = Counter()
            for (_, token), count in self.counts[layer].items():
                seen[token] += count
            for expert, share in enumerate(shares):
                own = {token: count for (which, token), count in self.counts[layer].items() if which == expert}
                ranked = sorted(own, key=lambda token: (-own[token] / seen[token], -own[token], token))[:top]
                tokens = [{"token": decode(t), "count": own[t], "part": own[t] / seen[t]} for t in ranked]
                rows.append({"layer": layer, "expert": expert, "share": share, "tokens": tokens})
        return rows


@contextmanager
def record_routing(model: nn.Module) -> Iterator[Routing]:
    """Count the choices of every router of `model` while it runs; padding does not count."""
    routing, ids, hooks = Routing(), [torch.empty(0)], []

    def remember(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("input_ids", "attention_mask"), args, strict=False)) | kwargs
        if given.get("input_ids") is None:
            raise ValueError("inputs_embeds: routing is told by token; give input_ids")
        tokens, mask = given["input_ids"], given.get("attention_mask")
        ids[0] = tokens if mask is None else tokens.masked_fill(~mask[:, -tokens.shape[1] :].bool(), -1)

    def count(name: str) -> Callable[..., None]:
        def hook(router: Router, _: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
            chosen = output[2]  # (N, k)
            pairs = torch.stack((chosen, ids[0].flatten()[:, None].expand_as(chosen)), -1).flatten(0, 1)
            found, times = pairs[pairs[:, 1] >= 0].unique(dim=0, return_counts=True)
            routing.experts[name] = router.config.num_experts
            routing.counts.setdefault(name, Counter()).update(
                {(expert, token): n for (expert, token), n in zip(found.tolist(), times.tolist(), strict=True)}
            )

        return hook

    for name, module in model.named_modules():
        if isinstance(module, ProvetuneModel):
            hooks.append(module.register_forward_pre_hook(remember, with_kwargs=True))
        elif isinstance(module, Router):
            hooks.append(module.register_forward_hook(count(name.removesuffix(".mlp.router"))))
    try:
        yield routing
    finally:
        for hook in hooks:
            hook.remove()
