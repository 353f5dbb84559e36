"""Judged answers as tokens: masks against a plain rendering, gates with their error lines, truncation, the audit."""

import json
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import CHATML, LLAMA3, ZEPHYR, build, chatml
from hypothesis import given
from hypothesis import strategies as st

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.load import load
from data_prep.rows import write_rows
from data_prep.tokens.answers import ANSWERS
from data_prep.tokens.config import PreferenceConfig
from data_prep.tokens.preference import PAIRS, render_side
from data_prep.tokens.prepare import load_prepared, prepare

USER, ANSWER = {"role": "user", "content": "How many?"}, {"role": "assistant", "content": "Four."}
OTHER, SYSTEM = {"role": "assistant", "content": "Five."}, {"role": "system", "content": "Be brief."}
PAIR = {"id": "r1", "source": "s", "prompt": "How many?", "chosen": "Four.", "rejected": "Five of them."}
CHAT = {"id": "r1", "source": "s", "prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]}


def run(tmp_path: Path, rows: list[dict[str, Any]], form: Any = PAIRS, tokenizer: Any = None, **fields: Any) -> Any:
    write_rows(tmp_path / "rows", "train", rows)
    config = PreferenceConfig(**fields)
    metrics = prepare(tmp_path / "rows", tokenizer or chatml(CHATML), tmp_path / "out", config, form=form)
    audit = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))["splits"]["train"]
    return metrics, audit, list(load_prepared(tmp_path / "out", "train"))


def supervised(tokenizer: Any, row: Any, side: str) -> str:
    return tokenizer.decode([label for label in row[f"{side}_labels"] if label != -100])


def test_only_the_answer_and_its_end_carry_loss(tmp_path: Path) -> None:
    tokenizer = chatml(CHATML)
    for row in (PAIR, CHAT):
        _, audit, rows = run(tmp_path, [row])
        assert supervised(tokenizer, rows[0], "chosen") == "Four.<|im_end|>"
        whole = tokenizer.apply_chat_template([USER, ANSWER], tokenize=False)
        assert tokenizer.decode(rows[0]["chosen_input_ids"]) == whole
        assert [preview["id"] for preview in audit["preview"]] == ["r1 chosen", "r1 rejected"]
        assert all(preview["round_trip"] for preview in audit["preview"])


def test_turns_of_the_prompt_carry_no_loss_and_all_of_the_answer_do(tmp_path: Path) -> None:
    again = {"role": "user", "content": "Sure?"}
    prompt = [SYSTEM, USER, {"role": "assistant", "content": "Earlier."}, again]
    row = {**CHAT, "prompt": prompt, "chosen": [ANSWER, again, OTHER]}
    _, _, rows = run(tmp_path, [row])
    tokenizer = chatml(CHATML)
    assert supervised(tokenizer, rows[0], "chosen") == "Four.<|im_end|>Five.<|im_end|>"
    assert supervised(tokenizer, rows[0], "rejected") == "Five.<|im_end|>"


TEXT = st.text("abc Xyz.?!é\n", min_size=1, max_size=30).filter(lambda text: text.strip() == text)
CHATS = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(
    lambda pairs: [
        turn for q, a in pairs for turn in ({"role": "user", "content": q}, {"role": "assistant", "content": a})
    ]
)


@given(CHATS, TEXT, TEXT, st.sampled_from([CHATML, LLAMA3, ZEPHYR]))
def test_a_side_is_the_template_s_own_text_cut_at_its_generation_prompt(
    before: list[dict[str, str]], question: str, answer: str, template: str
) -> None:
    tokenizer = chatml(template) if template == CHATML else build(template, "<s>", "</s>", ("<|eot_id|>",))
    prompt = [*before, {"role": "user", "content": question}]
    row = {"id": "r", "prompt": prompt, "chosen": [{"role": "assistant", "content": answer}]}
    rendered = render_side(tokenizer, row, "chosen", PreferenceConfig())
    opened = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    assert rendered.text == tokenizer.apply_chat_template([*prompt, *row["chosen"]], tokenize=False)
    assert rendered.text[: rendered.supervised[0][0]] == opened
    assert len(rendered.supervised) == 1


BROKEN = [
    ({**PAIR, "rejected": "Four."}, "chosen and rejected are equal, so there is nothing to prefer"),
    ({**CHAT, "rejected": [ANSWER]}, "chosen and rejected are equal, so there is nothing to prefer"),
    ({**PAIR, "rejected": "  "}, "rejected is empty"),
    ({**CHAT, "chosen": []}, "chosen is empty"),
    ({name: PAIR[name] for name in ("id", "chosen", "rejected")}, "has no prompt"),
    ({**CHAT, "prompt": [ANSWER, USER]}, "prompt begins with a turn of the role assistant, not with the user's"),
    ({**CHAT, "prompt": [USER, ANSWER]}, "prompt ends with a turn of the role assistant, so it does not ask"),
    ({**CHAT, "prompt": [USER, USER]}, "prompt[1] repeats the role user; join the two turns"),
    ({**CHAT, "chosen": [ANSWER, OTHER]}, "chosen[1] repeats the role assistant; join the two turns"),
    (
        {**CHAT, "chosen": [{"role": "bot", "content": "Four."}]},
        "chosen[0].role is 'bot', not one of system, developer",
    ),
    ({**CHAT, "rejected": [USER]}, "rejected goes on with a turn of the role user after the prompt that it shares"),
]


@pytest.mark.parametrize(("row", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_a_row_that_nothing_can_be_preferred_in_stops_with_its_id(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    """Also rows that a filter has edited: loading refuses the same in files."""
    with pytest.raises(DataError) as error:
        run(tmp_path, [PAIR | {"id": "good"}, row])
    line = str(error.value)
    assert line.startswith(f"row r1: {message}") and "\n" not in line
    assert line.endswith("correct the row or set stages.sft.on_broken_pair=drop")
    _, audit, rows = run(tmp_path, [PAIR | {"id": "good"}, row], on_broken_pair="drop")
    assert [each["id"] for each in rows] == ["good"] and audit["dropped"] == {"broken_pair": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "a"},
            "chosen and rejected are equal, so there is nothing to prefer",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "rejected is null, neither text nor turns"),
        ({"prompt": "q", "chosen": "", "rejected": "b"}, "chosen is empty"),
        ({"chosen": [USER, ANSWER], "rejected": [USER | {"content": "Why?"}, OTHER]}, "do not share a prompt"),
        ({"prompt": "Who?", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, "do not share the prompt"),
        (
            {"prompt": [ANSWER], "chosen": [ANSWER], "rejected": [OTHER]},
            "prompt begins with a turn of the role assistant",
        ),
        ({"prompt": [USER, USER], "chosen": [ANSWER], "rejected": [OTHER]}, "prompt[1] repeats the role user"),
        (
            {"prompt": [USER], "chosen": [{"role": "bot", "content": "a"}], "rejected": [OTHER]},
            "chosen[0].role is 'bot'",
        ),
        ({"prompt": [USER], "chosen": [USER], "rejected": [OTHER]}, "do not share a prompt"),
    ],
)
def test_a_file_s_broken_row_stops_with_its_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in (good, row)), encoding="utf-8")
    with pytest.raises(DataError) as error:
        load("mine", DatasetConfig(source=str(file), format="preference"), tmp_path / "out", None)
    assert message in str(error.value) and "rows.jsonl:2" in str(error.value) and "\n" not in str(error.value)


def test_rows_of_another_form_are_refused(tmp_path: Path) -> None:
    summary = {"id": "r1", "prompt": "q", "completion": "a"}
    with pytest.raises(
        DataError, match=r"row r1: is no preference row \(prompt, chosen, rejected\); use preference data"
    ):
        run(tmp_path, [summary])
    with pytest.raises(DataError, match=r"row r1: is no judged answer \(prompt, completion, label true or false\)"):
        run(tmp_path, [summary], ANSWERS)


def test_truncation_is_stated_and_fails_above_a_share(tmp_path: Path) -> None:
    long = {**PAIR, "rejected": "Five of them, " * 20}
    metrics, audit, rows = run(tmp_path, [long], max_length=64, max_truncated_share=1.0)
    assert audit["truncated_rows"] == 1 and metrics["truncated_supervised_share"] > 0.3
    assert len(rows[0]["rejected_input_ids"]) == 64
    with pytest.raises(
        DataError, match=r"train: \d+\.\d% of the supervised tokens are lost to stages.sft.max_length=64"
    ):
        run(tmp_path, [long], max_length=64)


def test_sides_that_differ_only_beyond_the_cut_are_refused(tmp_path: Path) -> None:
    alike = "Five of them, " * 20
    row = {**PAIR, "chosen": alike + "yes", "rejected": alike + "no"}
    with pytest.raises(DataError, match="row r1: chosen and rejected differ only after the first 64 tokens; raise"):
        run(tmp_path, [row], max_length=64, max_truncated_share=1.0)


def test_a_prompt_without_room_for_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row r1: \d+ tokens, of which the first \d+ are prompt"):
        run(tmp_path, [{**PAIR, "prompt": "How many? " * 30}], max_length=32)


def test_judged_answers_keep_their_label(tmp_path: Path) -> None:
    single = {"id": "r2", "source": "s", "prompt": [USER], "completion": [OTHER], "label": False}
    _, audit, rows = run(tmp_path, [PAIR, single], ANSWERS)
    assert [(row["id"], row["label"]) for row in rows] == [("r1 chosen", True), ("r1 rejected", False), ("r2", False)]
    tokenizer = chatml(CHATML)
    assert tokenizer.decode([label for label in rows[2]["labels"] if label != -100]) == "Five.<|im_end|>"
    assert audit["rows"] == 3
