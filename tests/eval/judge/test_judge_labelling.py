"""The page on which a person judges thirty pairs, and the file that it saves."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from eval.judge.games import Pair
from eval.judge.labelling import FORMAT, labelling_page, read_labels

HOSTILE = "</pre><script>alert(1)</script> & <b>bold</b> {{ seed }}"
PAIRS = [Pair(f"id{n}", "c", f"request {n}", f"BASE {n}", f"TUNED {n}", None) for n in range(60)]


class Articles(HTMLParser):
    """id → the three texts shown, in their order; every tag with its attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "article":
            self.now = dict(attrs)["data-id"]
            self.texts[self.now] = []
        if tag == "pre":
            self.texts[self.now].append("")
            self.open = "pre"

    def handle_endtag(self, tag: str) -> None:
        self.open = "" if tag == "pre" else self.open

    def handle_data(self, data: str) -> None:
        if self.open == "pre":
            self.texts[self.now][-1] += data


def page_of(pairs: list[Pair], folder: Path, **more: Any) -> str:
    return labelling_page(pairs, folder / "label.html", **more).read_text(encoding="utf-8")


def test_thirty_blinded_pairs_in_an_order_that_says_nothing(tmp_path: Path) -> None:
    page = page_of(PAIRS, tmp_path)
    shown = Articles(page).texts
    assert len(shown) == 30 and list(shown) != sorted(shown)
    lefts = sum(left.startswith("TUNED") for _, left, _ in shown.values())
    assert 7 <= lefts <= 23
    for name, (request, left, right) in shown.items():
        number = name.removeprefix("id")
        assert request == f"request {number}" and {left, right} == {f"BASE {number}", f"TUNED {number}"}
    assert not re.search(r"\b(base|tuned)\b", re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL))
    assert page == page_of(PAIRS[::-1], tmp_path) != page_of(PAIRS, tmp_path, seed=1)


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(PAIRS, tmp_path)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page)
    tags = Articles(page).tags
    assert not any({"src", "href"} & attributes.keys() for _, attributes in tags)
    assert "default-src 'none'" in page


def test_answers_cannot_write_into_the_page(tmp_path: Path) -> None:
    page = page_of([Pair('x"><i>', "c", HOSTILE, HOSTILE, "<|im_end|> b", None)], tmp_path)
    reading = Articles(page)
    assert reading.texts == {'x"><i>': [HOSTILE, *reading.texts['x"><i>'][1:]]}
    assert HOSTILE in reading.texts['x"><i>'][1:]
    assert page.count("<script>") == 1


@pytest.mark.parametrize("name", ["id0", "id1", "id2", "id3"])
def test_left_and_right_are_told_apart_again(name: str, tmp_path: Path) -> None:
    shown = Articles(page_of(PAIRS, tmp_path, count=60, seed=3)).texts[name]
    for place, choice in enumerate(("left", "right")):
        (tmp_path / "labels.json").write_text(
            json.dumps({"format": FORMAT, "seed": 3, "page": "p", "labels": [{"id": name, "choice": choice}]})
        )
        assert read_labels(tmp_path / "labels.json") == {name: shown[1 + place].split()[0].lower()}


def saved(**changes: Any) -> str:
    return json.dumps({"format": FORMAT, "seed": 0, "labels": [{"id": "a", "choice": "tie"}], **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a file of provetune-labels-1; save them from the labelling page"),
        (saved(format="other"), "not a file of"),
        (saved(labels={}), "not a file of"),
        (saved(seed=None), "has no seed"),
        (saved(labels=[{"id": "a", "choice": "both"}]), "'a' has the choice 'both'; allowed are left, right, tie"),
        (saved(labels=["a"]), "None has the choice None"),
    ],
)
def test_files_that_are_no_labels(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.json")


def test_a_missing_file_and_nothing_to_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing; open the labelling page, judge, and save .key s."):
        read_labels(tmp_path / "labels.json")
    with pytest.raises(DataError, match="labelling page: no pair of different answers"):
        labelling_page([PAIRS[0]._replace(tuned="BASE 0")], tmp_path / "x.html")


DRIVER = """
const page = require("fs").readFileSync(process.argv[2], "utf8"), script = page.match(/<script>([^]*?)<\\/script>/)[1];
const ids = [...page.matchAll(/data-id="([^"]*)"/g)].map(m => m[1]);
const meta = page.match(/<body data-format="([^"]*)" data-seed="([^"]*)" data-page="([^"]*)"/);
const handlers = {}, blobs = [], kept = {};
const node = dataset => ({ dataset, classList: { toggle() {} }, setAttribute() {}, addEventListener() {}, click() {} });
const articles = ids.map(id => node({ id })), status = { textContent: "" };
global.document = {
  body: { dataset: { format: meta[1], seed: meta[2], page: meta[3] } },
  querySelectorAll: what => what === "article" ? articles : [],
  querySelector: what => what === "[role=status]" ? status : node({}),
  addEventListener: (name, run) => handlers[name] = run,
  createElement: () => node({}),
};
global.window = { scrollTo() {} };
global.localStorage = { getItem: key => kept[key] ?? null, setItem: (key, value) => kept[key] = value };
global.Blob = class { constructor(parts) { blobs.push(parts[0]); } };
URL.createObjectURL = () => "blob:"; URL.revokeObjectURL = () => {};
global.setTimeout = run => run();
(0, eval)(script);
for (const key of ["1", "2", "0", "ArrowLeft", "k", "k", "t", "s"])
  handlers.keydown({ key, preventDefault() {} });
console.log(JSON.stringify({ saved: JSON.parse(blobs[0]), status: status.textContent, kept: Object.values(kept)[0] }));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_keys_choose_and_the_saved_file_is_read(tmp_path: Path) -> None:
    page_of(PAIRS, tmp_path)
    (tmp_path / "driver.js").write_text(DRIVER)
    done = subprocess.run(
        ["node", tmp_path / "driver.js", tmp_path / "label.html"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    ids = list(Articles((tmp_path / "label.html").read_text()).texts)
    # left, right, tie, left, then two back and the third again: tie
    choices = {item["id"]: item["choice"] for item in found["saved"]["labels"]}
    assert choices == {ids[0]: "left", ids[1]: "right", ids[2]: "tie", ids[3]: "left"}
    assert found["status"] == "4 of 30, 4 judged" and json.loads(found["kept"]) == choices
    (tmp_path / "labels.json").write_text(json.dumps(found["saved"]))
    labels = read_labels(tmp_path / "labels.json")
    assert list(labels) == ids[:4] and labels[ids[2]] == "tie" and set(labels.values()) <= {"base", "tuned", "tie"}
