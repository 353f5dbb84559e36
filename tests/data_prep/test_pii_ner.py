"""Names and places by models: the extra, windows, candidates; with the models also agreement and independence."""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.curation.pii.agreement import Agreement, agreement
from data_prep.curation.pii.config import Backend, Pii
from data_prep.curation.pii.detect import find_pii_batch
from data_prep.curation.pii.key import pii_identity
from data_prep.curation.pii.kinds import KINDS, LOOSE_KINDS
from data_prep.curation.pii.ner import files
from data_prep.curation.pii.ner.windows import may_hold_names, windows
from data_prep.curation.pii.step import SPANS, PiiStep, make_detectors, make_scrub
from data_prep.errors import DataError
from tests.benchmarks.pii import make_sentences

BACKENDS: tuple[Backend, ...] = ("presidio", "rampart")
MODULES = {"presidio": "presidio_analyzer", "rampart": "onnxruntime"}
TEXT = "My name is Maria Gonzalez and I live at 12 Rosewood Lane in Springfield.\\n\\nCall Peter Brown, Berlin."


def installed(backend: Backend) -> bool:
    model = files.MODELS[backend]
    return all(importlib.util.find_spec(name) for name in (*model.needs, model.package))


needs_models = pytest.mark.skipif(not all(map(installed, BACKENDS)), reason="the extra pii is not installed")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    files.model_folder.cache_clear()
    yield
    files.model_folder.cache_clear()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_extra_says_how_to_install_it(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    install = re.escape(files.EXTRA)
    expected = rf"^stages.filter.steps.pii.ner: {backend} needs the package {MODULES[backend]}; {install}$"
    config = Pii(ner=backend, action="mask")
    with pytest.raises(DataError, match=expected):
        PiiStep(config).measure([{"id": "1", "text": TEXT}])
    with pytest.raises(DataError, match=expected):
        pii_identity(config)
    assert PiiStep(config).columns()


def test_other_weights_than_the_tested_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model").write_bytes(b"other")
    fake = importlib.util.spec_from_loader("model", None, is_package=True)
    assert fake and fake.submodule_search_locations is not None
    fake.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: fake)
    monkeypatch.setitem(files.MODELS, "rampart", files.Model("model", "weights", ("model",), "0" * 64, ()))
    with pytest.raises(
        DataError, match=r"rampart in .*weights are not those that were tested \(sha256 d9298a10d1b0, expected 0{12}\)"
    ):
        files.model_folder("rampart")


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from("aB.\n \\n1é"), max_size=400), st.integers(2, 60))
def test_windows_cover_a_text_in_order(text: str, longest: int) -> None:
    pieces = list(windows(text, longest, candidates=False))
    clean = re.sub(r"\\[nrt]", "\n\n", text)
    read = [piece.start + place for piece in pieces for place in range(len(piece.text))]
    assert read == sorted(set(read)) and all(len(piece.text) <= longest for piece in pieces)
    assert "".join(piece.text for piece in pieces) == "".join(clean[place] for place in read)
    assert all(clean[place].isspace() for place in set(range(len(clean))) - set(read))


def test_windows_end_where_lines_sentences_or_words_end() -> None:
    text = "One two three. Four five six\nseven eight nine ten eleven"
    assert [piece.text for piece in windows(text, 30, False)] == [
        "One two three. Four five six\n",
        "seven eight nine ten eleven",
    ]
    assert [piece.text for piece in windows(text, 20, False)][:2] == ["One two three. ", "Four five six\n"]
    assert next(windows("a\\nb \ud800", 20, False)).text == "a\n\nb \ufffd"


@pytest.mark.parametrize(
    "text", ["Then Maria left", "call me at 12 noon", "my name is maria", "Ángel came", "I am from x"]
)
def test_candidates(text: str) -> None:
    assert may_hold_names(text)


@pytest.mark.parametrize(
    "text", ["The answer is yes. It isn't so.", "x = f(y) + 1", "however, this holds", "I do. We don't."]
)
def test_no_candidates(text: str) -> None:
    assert not may_hold_names(text)


@pytest.mark.slow
@needs_models
@pytest.mark.parametrize("ner_on", ["candidates", "all"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_names_and_places_are_found_whatever_stands_beside(backend: Backend, ner_on: str) -> None:
    config = Pii.model_validate({"ner": backend, "action": "mask", "ner_on": ner_on})
    texts = [TEXT, "", "\0 \u200b שלום ", "A" * 3000, "Maria " * 700, TEXT * 9, "1 " * 2000, "\ud800 x"]
    together = find_pii_batch(texts, config, make_detectors(config))
    detectors = make_detectors(config)
    assert [find_pii_batch([text], config, detectors)[0] for text in reversed(texts)] == together[::-1]
    found = {(span.kind, TEXT[span.start : span.end]) for span in together[0]}
    assert {("name", "Maria Gonzalez"), ("place", "Springfield")} <= found
    assert all(span.score == round(span.score, 4) for spans in together for span in spans)


@pytest.mark.slow
@needs_models
def test_scrubbing_takes_the_measured_findings_and_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Pii(ner=["presidio", "rampart"], action="mask")
    rows = [{"id": "1", "messages": [{"role": "user", "content": TEXT}]}, {"id": "2", "text": "It is so."}]
    spans = PiiStep(config).measure(rows)[SPANS]
    assert not {"Maria", "Gonzalez", "Springfield"} & set(json.dumps(spans).replace('"', " ").split())
    monkeypatch.setattr("data_prep.curation.pii.step.make_detectors", lambda config: pytest.fail("a model was loaded"))
    clean = make_scrub(config)(rows[0], spans[0])["messages"][0]["content"]
    assert "[NAME]" in clean and not any(name in clean for name in ("Maria", "Gonzalez", "Peter", "Berlin", "Rosewood"))
    assert make_scrub(config)(rows[1], spans[1]) is rows[1]
    assert set(pii_identity(config)) == set(BACKENDS)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[tuple[int, int]]]]:
    if not (importlib.util.find_spec("presidio_evaluator") and importlib.util.find_spec("faker")):
        pytest.skip("presidio-evaluator and faker are not installed")
    path = tmp_path_factory.mktemp("sentences") / "sentences.jsonl"
    make_sentences(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["t"], [(start, end) for start, end, *_ in row["s"]]) for row in rows]


def agreement_of(sentences: Sequence[tuple[str, list[tuple[int, int]]]], config: Pii) -> Agreement:
    found = find_pii_batch([text for text, _ in sentences], config, make_detectors(config))
    return agreement([gold for _, gold in sentences], [[(span.start, span.end) for span in spans] for spans in found])


@pytest.mark.slow
def test_rules_alone_are_precise(sentences: list[tuple[str, list[tuple[int, int]]]]) -> None:
    assert len(sentences) == 1500
    assert agreement_of(sentences, Pii()).precision >= 0.98
    everything = agreement_of(sentences, Pii(kinds=list(KINDS)))
    assert everything.precision >= 0.98 and everything.recall >= 0.35


@pytest.mark.slow
@needs_models
def test_rules_and_both_models_reach_the_promised_f2(sentences: list[tuple[str, list[tuple[int, int]]]]) -> None:
    union = Pii(kinds=list(KINDS), ner=["presidio", "rampart"], ner_kinds=list(LOOSE_KINDS))
    assert agreement_of(sentences, union).f2 >= 0.85
