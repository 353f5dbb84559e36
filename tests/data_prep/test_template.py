"""Rendered text and supervised spans, for many chat templates."""

from pathlib import Path

import pytest
from chat_tokenizers import (
    BROKEN_PROMPT,
    CHAT,
    CHATML,
    DROPS_THOUGHTS,
    FAMILIES,
    NO_END,
    NO_PROMPT,
    PAIR,
    THINKING,
    TRIMMING,
    build,
    chatml,
    conversations,
    family,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.tokens.template import RowTemplateError, end_of_turn, render, render_prompt


def spans(tokenizer, row, **options) -> list[str]:
    """The supervised texts of a row."""
    rendered = render(tokenizer, row, **options)
    return [rendered.text[start:end] for start, end in rendered.supervised]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_spans_are_the_answers_and_their_end_tokens(name: str, data: st.DataObject) -> None:
    tokenizer, end = family(name), FAMILIES[name][3]
    row = data.draw(conversations(system=name != "mistral"))
    answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    found = spans(tokenizer, row)
    if name in TRIMMING:
        answers = [answer.strip() for answer in answers]
    lead, gap = {"llama2": (" ", " "), "mistral": (" ", "")}.get(name, ("", ""))
    assert found == [lead + answer + gap + end for answer in answers]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_prompt_is_what_precedes_the_last_answer(name: str, data: st.DataObject) -> None:
    tokenizer = family(name)
    row = data.draw(conversations())
    rendered = render(tokenizer, row, loss_on="completion")
    assert render_prompt(tokenizer, row) == rendered.text[: rendered.supervised[0][0]]
    assert len(rendered.supervised) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_end_of_turn_is_learnt_from_the_template(name: str) -> None:
    assert end_of_turn(family(name)) == FAMILIES[name][3]


def test_all_supervises_everything_but_the_beginning() -> None:
    assert spans(family("llama3"), CHAT, loss_on="all")[0].startswith("<|start_header_id|>user")
    assert spans(chatml(CHATML), CHAT, loss_on="all")[0].startswith("<|im_start|>user")


def test_prompt_and_completion_become_a_conversation() -> None:
    assert render(chatml(CHATML), PAIR).text == (
        "<|im_start|>user\nCapital of France?<|im_end|>\n<|im_start|>assistant\nParis<|im_end|>\n"
    )
    assert spans(chatml(CHATML), PAIR) == ["Paris<|im_end|>"]


def test_the_template_text_after_the_end_token_carries_no_loss() -> None:
    rendered = render(family("phi3"), PAIR)
    assert rendered.text[rendered.supervised[0][1] :] == "\n<|endoftext|>"


def test_a_conversation_that_ends_with_the_user_is_continued_there() -> None:
    row = {**CHAT, "messages": CHAT["messages"][:3]}
    assert spans(chatml(CHATML), row) == ["Hello there<|im_end|>"]
    only_user = {**CHAT, "messages": CHAT["messages"][:1]}
    assert render(chatml(CHATML), only_user).supervised == []
    assert render_prompt(chatml(CHATML), only_user).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("Q", "A", "Q\nA</s>"),
        ("Q ", "A", "Q A</s>"),
        ("Q", " A", "Q A</s>"),
        ("Q\n", "\nA", "Q\n\nA</s>"),
        ("", "A", "A</s>"),
        ("Q", "", "Q\n</s>"),
        ("Q", "A</s>", "Q\nA</s>"),
    ],
)
def test_plain_rows_get_a_separator_where_there_is_no_whitespace(prompt: str, completion: str, text: str) -> None:
    tokenizer = build(None, None, "</s>", ())
    row = {"id": "p", "prompt": prompt, "completion": completion}
    rendered = render(tokenizer, row)
    assert rendered.text == text
    assert spans(tokenizer, row) == [completion.removesuffix("</s>") + "</s>"]
    assert render_prompt(tokenizer, row) == text[: rendered.supervised[0][0]]
    assert render(tokenizer, {"id": "p", "prompt": "Q", "completion": "A"}, separator="").text == "QA</s>"


def test_plain_rows_get_the_one_beginning_that_the_tokenizer_adds() -> None:
    adds, never = build(None, "<s>", "</s>", ()), build(None, None, "</s>", ())
    assert render(adds, PAIR).text == "<s>Capital of France?\nParis</s>"
    assert render(adds, {"id": "t", "text": "<s>Once"}).text == "<s>Once</s>"
    assert spans(adds, {"id": "t", "text": "Once"}) == ["Once</s>"]
    assert spans(adds, PAIR, loss_on="all") == ["Capital of France?\nParis</s>"]
    assert render(never, {"id": "t", "text": "Once"}).text == "Once</s>"
    written = build(None, None, "</s>", ("<s>", "own policy"))
    written.bos_token = "<s>"
    assert spans(written, {"id": "t", "text": "<s>Once"}) == ["Once</s>"]
    assert spans(written, {"id": "t", "text": "Once"}) == ["Once</s>"]


def test_tool_calls_are_supervised_without_content() -> None:
    template = CHATML.replace(
        "m['content'] +", "(m['content'] or '') + (m['tool_calls'] | string if m['tool_calls'] else '') +"
    )
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look_up"}}]}
    row = {"id": "t", "messages": [CHAT["messages"][0], call, {"role": "tool", "content": "42"}, CHAT["messages"][3]]}
    found = spans(chatml(template), row)
    assert "look_up" in found[0]
    assert found[0].endswith("<|im_end|>")
    assert found[1] == "Paris<|im_end|>"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (BROKEN_PROMPT, "its generation prompt does not begin a rendered assistant turn"),
        (NO_PROMPT, "it ignores add_generation_prompt but writes '<|im_start|>assistant\\n' before an answer"),
        (NO_END, "it ends an answer with '\\n', no special token of the tokenizer: the model would never stop"),
        ("{{ messages[0]['content'].missing.part }}", "it refuses a question and its answer ('str object' has no"),
        ("{{ 'fixed' }}", "it does not write the content of an assistant turn"),
    ],
)
def test_templates_that_cannot_be_trained_on_are_named(template: str, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        render(chatml(template), PAIR)
    text = str(caught.value)
    assert problem in text
    assert text.endswith("choose another chat template or stages.sft.template=plain")
    assert "\n" not in text


def test_a_template_that_rewrites_earlier_turns_can_only_train_the_last_one() -> None:
    with pytest.raises(
        RowTemplateError, match=r"row c-1: the chat template rewrites assistant turn 1 .*loss_on=completion"
    ):
        render(chatml(THINKING), CHAT)
    assert spans(chatml(THINKING), CHAT, loss_on="completion") == ["<think>\n\n</think>\n\nParis<|im_end|>"]


def test_a_generation_prompt_that_fails_later_is_noticed() -> None:
    template = CHATML.replace(
        "{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>' }}{{ 'bot' if messages|length > 1 }}"
    )
    with pytest.raises(RowTemplateError, match="row c-1: .* does not begin the rendered assistant turn 3"):
        render(chatml(template), CHAT)


def test_a_moving_system_prompt_is_noticed() -> None:
    row = {**CHAT, "messages": [{"role": "system", "content": "Be brief"}, *CHAT["messages"]]}
    with pytest.raises(RowTemplateError, match="row c-1: the chat template writes|row c-1: the chat template rewrites"):
        render(family("mistral"), row)
    assert spans(family("mistral"), row, loss_on="completion") == [" Paris</s>"]


def test_dropped_content_is_noticed() -> None:
    row = {"id": "d", "prompt": "Q", "completion": "<think>hm</think>Paris"}
    with pytest.raises(
        RowTemplateError, match="row d: the chat template changes or drops the content of assistant turn 1"
    ):
        render(chatml(DROPS_THOUGHTS), row)


def test_rows_the_template_refuses_are_named() -> None:
    row = {**CHAT, "messages": [CHAT["messages"][0], *CHAT["messages"]]}
    with pytest.raises(
        RowTemplateError, match=r"row c-1: the chat template refuses it \(Conversation roles must alternate"
    ):
        render(family("llama2"), row)
    row = {**CHAT, "messages": CHAT["messages"][1:]}
    with pytest.raises(RowTemplateError, match="row c-1: .* begins with an assistant turn"):
        render(chatml(CHATML), row)


def test_wrong_uses_are_named() -> None:
    plain = build(None, None, "</s>", ())
    with pytest.raises(DataError, match="template=chat: the tokenizer has no chat template; use template=plain"):
        render(plain, PAIR, template="chat")
    with pytest.raises(DataError, match="row c-1: messages need a chat template .*use template=chat"):
        render(plain, CHAT)
    with pytest.raises(DataError, match="row t: a text row has no prompt"):
        render_prompt(plain, {"id": "t", "text": "Once"})


TRL_TEMPLATES = {
    "llama3": ("<|begin|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
    "cohere": (
        "<BOS_TOKEN>",
        "<|END_OF_TURN_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    ),
    "gemma": ("<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>")),
    "phi3": ("<s>", "<|endoftext|>", ("<|end|>", "<|user|>", "<|assistant|>")),
    "qwen2_5": (None, "<|endoftext|>", ("<|im_start|>", "<|im_end|>")),
    "qwen3_instruct_2507": (None, "<|endoftext|>", ("<|im_start|>", "<|im_end|>")),
}


@pytest.mark.parametrize("name", TRL_TEMPLATES)
def test_masks_agree_with_trl_training_templates(name: str) -> None:
    """TRL also trains the text behind (or the newline before) an answer; nothing else may differ."""
    from data_prep.tokens.masks import IGNORED, encode

    trl = pytest.importorskip("trl")
    folder = Path(trl.__file__).parent / "chat_templates"
    bos, eos, special = TRL_TEMPLATES[name]
    original, training = ((folder / f"{name}{kind}.jinja").read_text("utf-8") for kind in ("", "_training"))
    tokenizer = build(original, bos, eos, special)
    encoded = encode(tokenizer, render(tokenizer, CHAT), 1000)
    theirs = tokenizer.apply_chat_template(
        CHAT["messages"], chat_template=training, return_assistant_tokens_mask=True, return_dict=True
    )
    assert encoded.input_ids == theirs["input_ids"]
    pairs = list(zip(encoded.labels, theirs["assistant_masks"], encoded.input_ids, strict=True))
    assert not any(label != IGNORED and not mask for label, mask, _ in pairs)
    extra = tokenizer.decode([token for label, mask, token in pairs if mask and label == IGNORED])
    assert extra == {"llama3": "", "cohere": "", "phi3": "\n\n<|endoftext|>", "qwen2_5": "\n\n\n\n"}.get(name, "\n\n")
