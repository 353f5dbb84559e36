"""Which model is exported, and in which forms."""

from typing import Literal

from pydantic import Field

from pipeline.contract import Flow, ModelRef, Node, Output, StageConfig
from pipeline.training.flow import refuse_virtual

VERSION = 1


class ExportConfig(StageConfig):
    """Write a model as safetensors with tokenizer and chat template, and as GGUF with an Ollama Modelfile."""

    kind: Literal["export"] = "export"
    """Which stage this is."""
    start_from: str | None = Field(default=None, alias="from")
    """The model to export, by stage name; without it, the newest. Its adapters are merged."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of the safetensors; without it, that of the model (`model.dtype`)."""
    gguf: Literal["F32", "F16", "Q8_0"] | None = "F16"
    """Number format of the matrices in `model.gguf` (Llama, Mistral and Qwen families); null writes no GGUF."""
    gguf_tokenizer: str | None = Field(default=None, min_length=1)
    """llama.cpp's name of how the tokenizer splits text (`tokenizer.ggml.pre`), where it is not recognised."""

    def extend(self, name: str, flow: Flow) -> None:
        """One node; the flow's newest model is then the exported one, so that it can be evaluated."""
        chosen, model = flow.model_named(self.start_from, f"stages.{name}.from")
        refuse_virtual(chosen, model, f"stages.{name}.from")
        identity = {
            "dtype": self.dtype or flow.model_dtype,
            "gguf": self.gguf,
            "gguf_tokenizer": self.gguf_tokenizer,
            "name": chosen,
        }
        node = Node(
            name=name,
            kind="export",
            version=VERSION,
            config={**identity, "trust_remote_code": flow.trust_remote_code},
            identity=identity,
            inputs=model.as_inputs(),
        )
        flow.models[name] = ModelRef(Output(flow.add(node), "model"))
