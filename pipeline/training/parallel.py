"""How the ranks of a training share its model and its batches, as the launch has told this process.

A group divides each matrix (tensor parallelism) or each sequence (context parallelism); its ranks read the same rows.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import StageFailed
from pipeline.parallel_config import GROUPS, undivided_heads
from pipeline.training.config import TrainConfig, leaves_model

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Groups:
    """All ranks, and how they share."""

    ranks: int
    tensor: int = 1
    """Ranks that divide each matrix."""
    context: int = 1
    """Ranks that divide each sequence."""
    replicas: int = 1
    """Whole models, each in shards."""

    @property
    def batches(self) -> int:
        """Groups that each take rows of their own."""
        return self.ranks // (self.tensor * self.context)

    def dealt(self, places: Sequence[int], size: int, rank: int) -> list[tuple[list[int], bool]]:
        """What a rank reads when places are dealt to the groups one by one, in batches of at most `size`.

        All ranks get as many batches, as they wait for each other in the forward pass; one that has run out reads the
        first place again, which does not count (False).
        """
        mine = [int(place) for place in places[rank // (self.tensor * self.context) :: self.batches]]
        most = -(-len(places) // self.batches)
        found = [mine[start : start + size] for start in range(0, most, size)]
        return [(batch or [int(places[0])], bool(batch)) for batch in found]


def groups() -> Groups:
    """Those of this process."""
    tensor, context, replicas = (int(os.environ.get(name, "1")) for name in GROUPS)
    return Groups(int(os.environ.get("WORLD_SIZE", "1")), tensor, context, replicas)


def divided_weights(recipe: TrainConfig) -> dict[str, Any]:
    """What `from_pretrained` is told so that each rank reads its own part of the weights; nothing without groups.

    Over the groups the weights lie in shards (FSDP2), gathered in 16 bit where a full training computes in bfloat16.
    """
    shared = groups()
    if shared.tensor == 1:
        return {}
    from transformers import DistributedConfig

    plan: DistributedConfig = DistributedConfig(
        tp_size=shared.tensor,
        tp_plan="auto",
        fsdp_size=shared.batches // shared.replicas,
        dp_replicate_size=shared.replicas,
        fsdp_mixed_precision=leaves_model(recipe.adapter) and recipe.dtype == "bfloat16",
    )
    return {"distributed_config": plan}


def refuse_undivided_heads(config: Mapping[str, Any]) -> None:
    """StageFailed where the heads of a model (its config.json) cannot be dealt to the ranks in equal parts."""
    shared, text = groups().tensor, config.get("text_config", config)
    for name in ("num_attention_heads", "num_key_value_heads"):
        count = text.get(name)
        if count and count % shared:
            raise StageFailed(undivided_heads(name, count, shared))


def parallelism() -> dict[str, Any]:
    """What a trainer's arguments are told of groups that divide matrices, so that their ranks read the same rows."""
    shared = groups()
    if shared.tensor == 1:
        return {}
    from pipeline.training.parts import LoadedInParts

    return {"parallelism_config": LoadedInParts(tp_size=shared.tensor, dp_shard_size=shared.batches)}


def is_in_parts(model_or_trainer: Any) -> bool:
    """Whether the model was divided as it was loaded, so that saving it takes all ranks."""
    return bool(getattr(model_or_trainer, "is_distributed_loading_by_transformers", False))


def parts_of_a_row() -> int | None:
    """What the length of each row must be a multiple of: two parts per rank that divides it; None when none does."""
    shared = groups().context
    return 2 * shared if shared > 1 else None


def whole_weights(model: Any) -> dict[str, Any] | None:
    """All weights of a divided model, on rank 0; called by all ranks at the end, after which it saves as a whole one.

    transformers would gather them too, but writes tied weights twice. None for a model with an adapter.
    """
    if not hasattr(model, "all_tied_weights_keys") or hasattr(model, "peft_config"):
        return None
    from transformers.distributed.utils import gather_full_state_dict

    model.config.distributed_config = None
    found, tied = gather_full_state_dict(model), model.all_tied_weights_keys
    return {name: value for name, value in found.items() if name not in tied}
