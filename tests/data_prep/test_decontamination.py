"""Rows that hold items of an evaluation are found, with the item and the place, and nothing else."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.counts import Counts, merge
from data_prep.curation.decontamination.index import build_index, open_index
from data_prep.curation.decontamination.step import DecontaminationStep, search_rows
from data_prep.errors import DataError
from data_prep.rows import Row
from tests.data_prep.decontamination_sets import document, folder_of, hosts, index_of, passages, questions, sentence

QUESTION = "Which gas do most green plants take up from the air to make their own food in sunlight?"
ITEM = {"id": "leaf", "source": "s", "prompt": QUESTION, "completion": "carbon dioxide"}


def step_on(rows: list[Row], folder: Path, **settings: Any) -> DecontaminationStep:
    config = Decontamination.model_validate(settings)
    build_index({"biology": folder_of(rows, folder / "biology")}, config, folder / "index")
    return DecontaminationStep(config, folder / "index")


def table_of(step: DecontaminationStep, rows: list[Row]) -> pa.Table:
    measured = step.measure(rows)
    return pa.table({name: pa.array(measured[name], kind) for name, kind in step.columns().items()})


def reasons_of(step: DecontaminationStep, *texts: str) -> list[list[str]]:
    return step.reasons(table_of(step, [{"id": str(n), "text": text} for n, text in enumerate(texts)]))


def test_the_reason_names_item_share_and_span(tmp_path: Path) -> None:
    step = step_on([ITEM], tmp_path)
    text = f"Some notes.\n\n“{QUESTION.upper()}” — Carbon dioxide."
    table = table_of(step, [{"id": "1", "text": text}, {"id": "2", "text": "Nothing of the kind."}])
    assert step.reasons(table)[1] == []
    assert step.reasons(table)[0] == [f'1.00 of biology item leaf: "{QUESTION.upper()[:79]}…"']
    found = {name.removeprefix("decontamination_"): values[0] for name, values in table.to_pydict().items()}
    assert text[found["start"] : found["end"]] == QUESTION.upper()[:-1] == found["text"]
    assert (found["dataset"], found["item"], found["side"], found["part"]) == ("biology", "leaf", "prompt", "text")
    assert table["decontamination_share"].to_pylist() == [1.0, None]


def test_each_part_of_a_row_is_looked_at(tmp_path: Path) -> None:
    step = step_on([ITEM], tmp_path)
    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": QUESTION}]
    rows: list[Row] = [
        {"id": "1", "prompt": "A quiz, please.", "completion": QUESTION},
        {"id": "2", "messages": turns},
        {"id": "3", "prompt": "A quiz.", "chosen": "No.", "rejected": QUESTION},
    ]
    assert table_of(step, rows)["decontamination_part"].to_pylist() == ["completion", "completion", "rejected"]


def test_the_span_is_given_in_the_text_as_it_was(tmp_path: Path) -> None:
    step = step_on([ITEM], tmp_path)
    text = "Caf\u0065\u0301 &quot;notes&quot;: " + QUESTION.replace(" ", "&nbsp;")
    table = table_of(step, [{"id": "1", "text": text}])
    start, end = table["decontamination_start"][0].as_py(), table["decontamination_end"][0].as_py()
    assert text[start:end].startswith("Which&nbsp;gas") and text[start:end].endswith("sunlight")


@pytest.mark.parametrize(
    "text, kept",
    [
        ("Do you know the capital of France?", False),
        ("Quiz: do you know the capital of France? Paris.", False),
        ("Few people do you know the capital of France better than she does", True),
    ],
)
def test_a_short_item_counts_only_as_a_whole_that_stands_alone(tmp_path: Path, text: str, kept: bool) -> None:
    item = {"id": "c", "source": "s", "prompt": "Do you know the capital of France?", "completion": "Paris"}
    assert (reasons_of(step_on([item], tmp_path), text) == [[]]) is kept


def test_items_too_short_are_counted_and_not_looked_for(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "source": "s", "prompt": word, "completion": "no"}
        for n, word in enumerate(("hands", "two feet"))
    ]
    step = step_on(rows, tmp_path)
    assert reasons_of(step, "hands", "two feet") == [[], []]
    assert open_index(tmp_path / "index").numbers["biology"]["too_short"] == 4


def test_other_numbers_make_another_problem(tmp_path: Path) -> None:
    problem = "Ann has {} red apples and {} green ones, eats {} of them and gives the rest to her sister. How many?"
    item = {"id": "n", "source": "s", "prompt": problem.format(12, 7, 3), "completion": "16"}
    same, other = problem.format(12, 7, 3), problem.format(25, 8, 4)
    assert [bool(each) for each in reasons_of(step_on([item], tmp_path), same, other)] == [True, False]
    loose = step_on([item], tmp_path / "loose", min_number_share=0.0)
    assert [bool(each) for each in reasons_of(loose, same, other)] == [True, True]


def test_words_far_from_a_shared_ngram_are_no_match(tmp_path: Path) -> None:
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(40)]
    step = step_on([{"id": "w", "source": "s", "text": " ".join(words)}], tmp_path)
    row = words[:24] + [word if n % 4 == 3 else "other" for n, word in enumerate(words[24:])]
    assert table_of(step, [{"id": "1", "text": " ".join(row)}])["decontamination_share"].to_pylist() == [0.6]


def test_a_changed_word_that_others_have_too_costs_less(tmp_path: Path) -> None:
    text = "the old {} of the town was {} in the year of the great storm by its own people"
    rows = [{"id": str(n), "source": "s", "text": text.format(f"tower{chr(97 + n)}", "rebuilt")} for n in range(7)]
    step = step_on(rows, tmp_path)
    table = table_of(step, [{"id": "1", "text": text.format("towerd", "moved")}])
    shares = {match["item"]: match["share"] for match in table["decontamination_matches"][0].as_py()}
    # One word of 17 is another one for item 3, two for all others; and that one says more than any word.
    assert (
        len(shares) == 7 and shares["3"] > 0.94 and all(share < 0.85 for item, share in shares.items() if item != "3")
    )


def test_options_are_no_evidence_without_their_short_question(tmp_path: Path) -> None:
    options = "\nA. carbon dioxide and water\nB. oxygen and light\nC. soil and stones\nD. nothing at all of these"
    item = {"id": "o", "source": "s", "prompt": f"What do plants take up?{options}", "completion": "oxygen and light"}
    found = reasons_of(step_on([item], tmp_path), f"What do plants take up?{options}", f"What did they find?{options}")
    assert bool(found[0]) and found[1] == []


def test_long_options_are_no_excerpt_without_their_short_question(tmp_path: Path) -> None:
    draw = random.Random(8)
    options = "\n".join(["", *(f"{letter}. {sentence(draw, 25)}" for letter in "ABCD")])
    item = {"id": "o", "source": "s", "prompt": f"What do plants take up?{options}", "completion": "A"}
    found = reasons_of(step_on([item], tmp_path), f"What do plants take up?{options}", f"Where did they go?{options}")
    assert bool(found[0]) and found[1] == []


def test_an_excerpt_of_a_long_item_counts_by_its_ngrams(tmp_path: Path) -> None:
    item = passages(1, 1)[0]
    words = item["text"].split()
    step = step_on([{**item, "text": document(random.Random(5), 60) + " " + item["text"]}], tmp_path, max_hits=30)
    excerpt, shorter = " ".join(words[10:60]), " ".join(words[10:30])
    found = reasons_of(step, excerpt, shorter)
    assert "n-grams of biology item p0" in found[0][0] and found[1] == []


def test_a_limit_needs_no_new_measures(tmp_path: Path) -> None:
    step = step_on([ITEM], tmp_path)
    half = " ".join(QUESTION.split()[:12]) + " become tall and strong"
    table = table_of(step, [{"id": "1", "text": half}])
    share = table["decontamination_share"][0].as_py()
    assert 0.5 < share < 0.75 and step.reasons(table) == [[]]
    stricter = DecontaminationStep(Decontamination(max_share=0.5), tmp_path / "index")
    assert stricter.reasons(table)[0][0].startswith(f"{share:.2f} of biology item leaf")
    assert [(limit.rule, limit.column, limit.value) for limit in stricter.limits()] == [
        ("max_share", "decontamination_share", 0.5),
        ("max_hits", "decontamination_hits", 50),
    ]


def test_measures_do_not_depend_on_the_rows_beside(tmp_path: Path) -> None:
    sets = {"questions": questions(1), "passages": passages(1)}
    config = Decontamination()
    index = index_of(sets, config)
    draw = random.Random(1)
    rows: list[Row] = [{"id": str(n), "text": text} for n, text in enumerate(hosts(1, 40))]
    rows += [
        {"id": row["id"], "text": f"{document(draw, 3)} {row.get('prompt', row.get('text'))}"}
        for row in questions(1)[:20]
    ]
    together, counts = search_rows(rows, index, config)
    alone = [search_rows([row], index, config) for row in rows]
    assert together == [found[0] for found, _ in alone]
    merged = merge(counts for _, counts in alone)
    assert (merged.rows, merged.grams.tolist(), merged.documents.tolist()) == (
        counts.rows,
        counts.grams.tolist(),
        counts.documents.tolist(),
    )


def test_the_index_has_the_same_bytes_however_it_is_built(tmp_path: Path) -> None:
    folders = {name: folder_of(rows, tmp_path / name) for name, rows in (("b", passages(1)), ("a", questions(1)))}
    build_index(folders, Decontamination(), tmp_path / "first")
    build_index(dict(reversed(folders.items())), Decontamination(), tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    words = sum(each["words"] for each in open_index(tmp_path / "first").numbers.values())
    texts = len(open_index(tmp_path / "first").arrays["texts"])
    assert (tmp_path / "first").stat().st_size <= 36 * words + texts + 60 * len(
        open_index(tmp_path / "first").names
    ) + 4096


def test_the_mapped_index_finds_what_the_built_one_finds(tmp_path: Path) -> None:
    config, rows = Decontamination(), [{"id": "1", "text": questions(1)[3]["prompt"]}]
    built = build_index({"a": folder_of(questions(1), tmp_path / "a")}, config, tmp_path / "index")
    assert search_rows(rows, built, config)[0] == search_rows(rows, open_index(tmp_path / "index"), config)[0] != [[]]


def test_an_evaluation_without_rows_finds_nothing(tmp_path: Path) -> None:
    assert reasons_of(step_on([], tmp_path), "any text at all", "") == [[], []]


@pytest.mark.parametrize("length", [6, 20, 400])
def test_the_errors_of_the_index(tmp_path: Path, length: int) -> None:
    folder = folder_of([ITEM], tmp_path / "a")
    build_index({"a": folder}, Decontamination(), tmp_path / "index")
    (tmp_path / "index").write_bytes((tmp_path / "index").read_bytes()[:length])
    with pytest.raises(DataError, match="delete it and run the filter again"):
        open_index(tmp_path / "index")
    with pytest.raises(DataError, match="no decontamination index; run the filter, which builds it"):
        open_index(tmp_path / "none")
    with pytest.raises(DataError, match=r"decontamination.against: mmlu is no data set of this run; there are a$"):
        build_index({"a": folder}, Decontamination(against=["mmlu"]), tmp_path / "other")


def test_against_chooses_data_sets(tmp_path: Path) -> None:
    folders = {name: folder_of([{**ITEM, "id": name}], tmp_path / name) for name in ("a", "b")}
    assert list(build_index(folders, Decontamination(against=["b"]), tmp_path / "index").numbers) == ["b"]


def test_counts_are_written_and_read(tmp_path: Path) -> None:
    index, config = index_of({"q": questions(1)}, Decontamination()), Decontamination()
    _, counts = search_rows([{"id": "1", "text": questions(1)[0]["prompt"][:60]}], index, config)
    counts.save(tmp_path / "counts.npz")
    again = Counts.load(tmp_path / "counts.npz")
    assert again.rows == 1 and again.grams.tolist() == counts.grams.tolist() != []
