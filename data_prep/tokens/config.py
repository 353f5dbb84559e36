"""The settings of tokenisation; part of the configuration of supervised fine-tuning."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel

Template = Literal["auto", "chat", "plain"]
LossOn = Literal["assistant", "completion", "all"]
OnRowError = Literal["fail", "drop"]

CHAT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama2": (),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (),
    "zephyr": (),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "phi3": ("<|end|>", "<|user|>", "<|assistant|>"),
}
"""The shipped chat templates, and the control tokens that each needs beside the beginning and the end token."""


class RenderConfig(StrictModel):
    """How rows become token ids, whatever is learned from them."""

    max_length: int = Field(default=1024, ge=2)
    """Most tokens of a row; the end of a longer row is cut off."""
    template: Template = "auto"
    """chat: the tokenizer's chat template; plain: prompt, separator, completion, end token; auto: chat where the
    tokenizer has a chat template, else plain. Text rows never get a template."""
    chat_template: str = "own"
    """own: the tokenizer's. trl: TRL's training variant of it, where earlier answers keep their thinking blocks.
    chatml, llama2, llama3, mistral, zephyr, gemma, phi3: shipped, for a tokenizer without one. Else the path of a
    .jinja file. A template from outside is saved with the trained model."""
    separator: str = "\n"
    """Plain template: put between prompt and completion unless whitespace is there already; part of the prompt."""
    on_too_long: OnRowError = "fail"
    """A row whose prompt leaves no room for a single supervised token: stop with its id, or drop and count it."""
    on_no_supervision: OnRowError = "fail"
    """A row with nothing to learn, such as a chat without an assistant turn: stop with its id, or drop and count it."""
    on_template_error: OnRowError = "fail"
    """A row the chat template refuses or renders unverifiably: stop with its id, or drop and count it."""
    max_truncated_share: float = Field(default=0.05, ge=0.0, le=1.0)
    """Largest share of a split's supervised tokens that may be lost to max_length before tokenisation fails."""
    preview_rows: int = Field(default=4, ge=0)
    """Rows per split shown in audit.json piece by piece, supervised or not."""


class TokensConfig(RenderConfig):
    """How rows become token ids and which of them carry loss."""

    loss_on: LossOn = "assistant"
    """assistant: every assistant turn; completion: the last assistant turn only; all: every token but the
    beginning-of-sequence token. Text rows are treated as all."""


class PreferenceConfig(RenderConfig):
    """How rows with judged answers become token ids. Every assistant turn after the prompt carries loss."""

    on_broken_pair: OnRowError = "fail"
    """A row that nothing can be preferred in (a side is missing, both are equal, the turns are out of order, or both
    sides are equal once they are cut): stop with its id, or drop and count it."""
