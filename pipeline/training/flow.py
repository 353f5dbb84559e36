"""Where a training stage takes its model from in the flow of a run, and what it leaves there."""

from pipeline.contract import Flow, ModelRef, Node, Output
from pipeline.errors import ConfigError
from pipeline.training.adapter_config import VIRTUAL, Adapter, leaves_model
from pipeline.training.config import Recipe, split_batch


def starting_model(recipe: Recipe, start_from: str | None, stage: str, flow: Flow) -> ModelRef:
    """The model that a stage trains on from. ConfigError when it cannot, or when the batch cannot be shared out."""
    name, model = flow.model_named(start_from, f"stages.{stage}.from")
    refuse_virtual(name, model, f"stages.{stage}.from")
    try:
        if recipe.batch_tokens is None:
            split_batch(recipe.batch_size, recipe.micro_batch_size, flow.processes)
    except ConfigError as error:
        raise ConfigError(f"stages.{stage}: {error}") from None
    return model


def refuse_virtual(name: str, model: ModelRef, key: str) -> None:
    """Virtual tokens are no part of the weights, so that nothing can be trained or merged on top of them."""
    for adapter in model.adapters:
        kind = adapter.node.config.get("adapter", {}).get("kind")
        if kind in VIRTUAL:
            raise ConfigError(
                f"{key}: model '{name}' ends in a {kind} adapter, which cannot be merged into weights; name a model "
                "before it, or train it with adapter=lora"
            )


def trained_model(adapter: Adapter, model: ModelRef, train: Node) -> ModelRef:
    """What a stage leaves: a whole model, or one more adapter on the model that it started from."""
    if leaves_model(adapter):
        return ModelRef(weights=Output(train, "model"))
    return ModelRef(model.weights, (*model.adapters, Output(train, "adapter")))
