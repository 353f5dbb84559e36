"""What would run: the nodes of a run in order, their fingerprints, and whether each is cached. Never imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Artifact, HashMemory, State
from pipeline.config import RunConfig
from pipeline.contract import Flow, ModelRef, Node, Output
from pipeline.errors import ConfigError
from pipeline.model_facts import facts_of, facts_of_scratch
from pipeline.origins import Origin, data_origin, model_origin
from pipeline.parallel_config import undivided_heads
from pipeline.stages.model.config import VERSION as MODEL_VERSION

DATA_VERSION = 2


@dataclass(frozen=True)
class Step:
    """A node of the plan with its artifact."""

    node: Node
    artifact: Artifact
    state: State


@dataclass(frozen=True)
class Plan:
    """A run, ready to be shown or executed."""

    config: RunConfig
    steps: list[Step]
    flow: Flow
    model: Origin
    data: dict[str, Origin]
    hashes: HashMemory

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """Node name → artifact."""
        return {step.node.name: step.artifact for step in self.steps}

    def input_paths(self, node: Node) -> dict[str, Path]:
        """Where a node's inputs lie (absolute, because a worker may run elsewhere)."""
        root = artifact_root(self.config)
        return {
            label: (artifact_folder(root, output.node) / output.path).absolute()
            for label, output in node.inputs.items()
        }


def artifact_root(config: RunConfig) -> Path:
    """The folder of all artifacts."""
    return Path(config.outputs).expanduser() / "artifacts"


def artifact_folder(root: Path, node: Node) -> Path:
    """`<root>/<kind>/<fingerprint>`."""
    return root / node.kind / node.fingerprint


def make_plan(config: RunConfig) -> Plan:
    """Pin the sources, lay out the nodes and look at the artifacts.

    Raises ConfigError (unknown names, impossible combinations) and DataFault (missing files).
    """
    if not config.run:
        raise ConfigError("run: no stages; choose +experiment=NAME (`python -m pipeline` lists them) or set run=[…]")
    hashes = HashMemory(artifact_root(config) / "hashes.json")
    data = {name: data_origin(name, dataset, hashes) for name, dataset in config.data.items()}
    model = model_origin(config.model, hashes)
    root = artifact_root(config)
    flow = _lay_out(config, model, data, lambda node: Artifact(artifact_folder(root, node)).state(hashes) == "cached")
    _refuse_undivided_heads(config, model)
    steps = []
    for node in flow.nodes:
        linked = node.kind == "model" and Path(model.location).is_dir()
        artifact = Artifact(artifact_folder(root, node), {"model": model.location} if linked else {})
        steps.append(Step(node, artifact, artifact.state(hashes)))
    hashes.save()
    return Plan(config, steps, flow, model, data, hashes)


def _lay_out(config: RunConfig, model: Origin, data: dict[str, Origin], finished: Callable[[Node], bool]) -> Flow:
    """The sources' nodes first, then each stage adds its own."""
    flow = Flow(
        seed=config.seed,
        model_dtype=config.model.dtype,
        attention=config.model.attention,
        trust_remote_code=config.model.trust_remote_code,
        processes=config.launch.batches,
        tensor_parallel=config.launch.tensor_parallel,
        context_parallel=config.launch.context_parallel,
        architecture=config.model.architecture,
        artifacts=artifact_root(config),
        finished=finished,
    )
    if config.model.source != "scratch":
        _add_model(config, model, flow)
    for name in config.data:
        _add_data(name, config, data[name], flow)
    if config.model.scratch is not None:
        _add_model(config, model, flow)
    for name in config.run:
        config.stages[name].extend(name, flow)
    return flow


def _refuse_undivided_heads(config: RunConfig, model: Origin) -> None:
    """ConfigError where tensor parallelism cannot deal out a model's heads; of a model not here yet, the ranks tell."""
    shared, scratch = config.launch.tensor_parallel, config.model.scratch
    if shared == 1:
        return
    facts = facts_of_scratch(scratch) if scratch is not None else facts_of(Path(model.location))
    told = config.model.architecture or {}
    heads = told.get("num_attention_heads") if facts is None else facts.heads
    pairs = told.get("num_key_value_heads") if facts is None else facts.key_value_heads
    for name, count in (("num_attention_heads", heads), ("num_key_value_heads", pairs)):
        if count and count % shared:
            raise ConfigError(undivided_heads(name, count, shared))


def _add_model(config: RunConfig, origin: Origin, flow: Flow) -> None:
    """The model node; a scratch model depends on the data, because its tokenizer is trained on it."""
    scratch = config.model.scratch
    training = {name: output for name, output in flow.datasets.items() if flow.roles[name] == "train"}
    settings = {
        "location": origin.location,
        "revision": origin.revision,
        "scratch": scratch.model_dump(mode="json") if scratch else None,
    }
    node = Node(
        name="model",
        kind="model",
        version=MODEL_VERSION,
        config=settings,
        identity=origin.identity,
        inputs=training if scratch else {},
    )
    flow.models["base"] = ModelRef(Output(flow.add(node), "model"))


def _add_data(name: str, config: RunConfig, origin: Origin, flow: Flow) -> None:
    """A data node; it depends on the model only when a column is cut by the model's tokens."""
    dataset = config.data[name]
    if dataset.lead is not None and "base" not in flow.models:
        raise ConfigError(
            f"data.{name}.lead: counts tokens of the model, but a scratch model has none yet; remove lead"
        )
    settings = dataset.model_dump(mode="json")
    if origin.revision is not None:
        settings["revision"] = origin.revision
    node = Node(
        name=f"data/{name}",
        kind="data",
        version=DATA_VERSION,
        config={"name": name, "dataset": settings},
        identity={"name": name, **origin.identity},
        inputs=flow.models["base"].as_inputs() if dataset.lead is not None else {},
    )
    flow.datasets[name] = flow.sources[name] = Output(flow.add(node))
    flow.roles[name] = dataset.role
    flow.carried[name] = dataset.keep
    if dataset.role == "eval" or dataset.splits.test > 0:
        flow.tested.add(name)
