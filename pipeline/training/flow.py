"""Where a training stage takes its model from in the flow of a run, and what it leaves there."""

import json
from dataclasses import replace
from pathlib import Path

from data_prep.errors import DataError
from data_prep.tokens.choose import fingerprint, template_of_file
from data_prep.tokens.config import CHAT_TEMPLATES
from pipeline.contract import Flow, ModelRef, Node, Output
from pipeline.errors import ConfigError
from pipeline.training.adapter_config import VIRTUAL, Adapter, leaves_model
from pipeline.training.config import Recipe, split_batch

TEMPLATE_VERSION = 1
DIVIDED_STAGES, CONTEXT_STAGES = ("pretrain", "sft", "dpo", "kto"), ("sft",)
"""The stages that can train on ranks that divide matrices, and on ranks that divide sequences."""
DIVIDED_ADAPTERS = ("none", "lora")
"""What they can train."""
UNDIVIDED = {"early_stopping": "null", "liger": "false", "compile": "false", "optimizer": "adamw"}
"""Settings that divided matrices leave no choice."""


def starting_model(recipe: Recipe, start_from: str | None, stage: str, flow: Flow) -> ModelRef:
    """The model that a stage trains on from. ConfigError when it cannot, or when the batch cannot be shared out."""
    name, model = flow.model_named(start_from, f"stages.{stage}.from")
    refuse_virtual(name, model, f"stages.{stage}.from")
    try:
        if recipe.batch_tokens is None:
            split_batch(recipe.batch_size, recipe.micro_batch_size, flow.processes)
    except ConfigError as error:
        raise ConfigError(f"stages.{stage}: {error}") from None
    if (clash := clash_with_groups(recipe, model, flow)) is not None:
        raise ConfigError(f"stages.{stage}: {clash}")
    return model


def clash_with_groups(recipe: Recipe, model: ModelRef, flow: Flow) -> str | None:
    """Why ranks that share a batch cannot train so, with what can be done; None when they can."""
    tensor, context = flow.tensor_parallel, flow.context_parallel
    if tensor == context == 1:
        return None
    name = f"launch.tensor_parallel={tensor}" if tensor > 1 else f"launch.context_parallel={context}"
    kind, told = getattr(recipe, "kind", ""), recipe.model_dump()
    stages = DIVIDED_STAGES if tensor > 1 else CONTEXT_STAGES
    if kind not in stages:
        return f"kind {kind} does not go with {name}; only {', '.join(stages)}"
    if recipe.adapter.kind not in DIVIDED_ADAPTERS:
        return f"adapter {recipe.adapter.kind} does not go with {name}; use {' or '.join(DIVIDED_ADAPTERS)}"
    for setting, wanted in UNDIVIDED.items():
        if tensor > 1 and (value := json.dumps(told[setting]).strip('"')) != wanted:
            return f"{setting} {value} does not go with {name}; set {setting}={wanted}"
    if tensor > 1 and model.adapters:
        return f"it starts from an adapter, which cannot be merged into the parts of {name}; add a stage of kind merge"
    if context > 1 and told.get("packing", "none") != "none":
        return f"packing {told['packing']} does not go with {name}, which knows no mask; set packing=none"
    if context > 1 and flow.attention != "sdpa":
        return f"model.attention {flow.attention} does not go with {name}; set model.attention=sdpa"
    return None


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


def with_chat_template(chosen: str, model: ModelRef, stage: str, flow: Flow) -> ModelRef:
    """The model with a chat template from outside in its weights' folder; with `own` and `trl` the model as it is.

    All models of the same weights get it: base and tuned are compared in the same words. ConfigError for a name that is
    neither known nor a file.
    """
    if chosen in ("own", "trl"):
        return model
    try:
        identity = {"chat_template": fingerprint(chosen)}
        text = None if chosen in CHAT_TEMPLATES else template_of_file(Path(chosen))
    except DataError as error:
        raise ConfigError(str(error).replace("stages.sft.", f"stages.{stage}.")) from None
    config = {"chosen": chosen, "text": text, "stage": stage, "trust_remote_code": flow.trust_remote_code}
    inputs = {"weights": model.weights}
    node = flow.add(
        Node(f"{stage}/template", "sft.template", TEMPLATE_VERSION, config, identity=identity, inputs=inputs)
    )
    weights = Output(node, "model")
    for name, known in flow.models.items():
        if known.weights == model.weights:
            flow.models[name] = replace(known, weights=weights)
    return replace(model, weights=weights)
