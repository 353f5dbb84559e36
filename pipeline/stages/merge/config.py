"""Which model is merged, and the number format of the result."""

from typing import Literal

from pydantic import Field

from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig
from pipeline.training.flow import refuse_virtual

VERSION = 1


class MergeConfig(StageConfig):
    """Merge a model's adapters into its weights; quantised ones are dequantised, tied embeddings untied if needed."""

    kind: Literal["merge"] = "merge"
    """Which stage this is."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to merge, by stage name; without it, the newest."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of the merged weights; without it, that of the model (`model.dtype`)."""

    def extend(self, name: str, flow: Flow) -> None:
        """One node; the flow's newest model is then the merged one."""
        chosen, model = flow.model_named(self.start_from, f"stages.{name}.from")
        refuse_virtual(chosen, model, f"stages.{name}.from")
        identity = {"dtype": self.dtype or flow.model_dtype}
        node = Node(
            name=name,
            kind="merge",
            version=VERSION,
            config={**identity, "trust_remote_code": flow.trust_remote_code},
            identity=identity,
            inputs=model.as_inputs(),
        )
        flow.models[name] = ModelRef(Output(flow.add(node), "model"))
