"""The main text of pages."""

import sys

import pytest

from data_prep.curation.normalise.config import Normalise
from data_prep.curation.normalise.edit import Normaliser
from data_prep.errors import DataError
from data_prep.html_text import is_html

WORDS = "The harbour was quiet that morning, and the boats lay still on the grey water. " * 6
PAGE = f"""<!DOCTYPE html><html><head><title>Harbour</title><script>var hidden = 1;</script></head><body>
<nav><a href="/">Home</a> <a href="/login">Log in</a></nav>
<article><h1>The harbour</h1><p>{WORDS}</p><p>A second paragraph &amp; its end. {WORDS}</p></article>
<footer>Copyright notice and links</footer></body></html>"""


@pytest.mark.parametrize("library", ["trafilatura", "resiliparse"])
def test_a_page_becomes_its_main_text(library: str) -> None:
    pytest.importorskip(library)
    normaliser = Normaliser(Normalise.model_validate({"html": library}))
    row, counts = normaliser.edit({"text": PAGE})
    assert counts["html"] == 1 and "html_empty" not in counts
    assert WORDS.strip() in row["text"] and "A second paragraph & its end." in row["text"]
    assert not any(word in row["text"] for word in ("hidden", "<p>", "Log in"))
    empty, counts = normaliser.edit({"text": "<html><body><nav></nav></body></html>"})
    assert empty["text"] == "" and counts == {"html": 1, "html_empty": 1}


@pytest.mark.parametrize("text", ["a < b and c > d", "List<p> of <T>", "x <b>y</b>", "no tag at all", "<3"])
def test_text_that_is_no_page_stays(text: str) -> None:
    pytest.importorskip("resiliparse")
    if "<p>" in text:
        assert is_html(text)  # a paragraph tag: cannot be told from a page
        return
    assert Normaliser(Normalise(html="resiliparse")).edit({"text": text}) == ({"text": text}, {})


def test_only_text_rows_are_pages() -> None:
    row = {"prompt": PAGE.replace("\n", " "), "completion": "a"}
    assert Normaliser(Normalise(html="resiliparse")).edit(row) == (row, {})


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(DataError, match=r"normalise\.html: trafilatura is not installed .*; pip install -c constr"):
        Normaliser(Normalise(html="trafilatura")).edit({"text": PAGE})
