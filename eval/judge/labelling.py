"""Thirty pairs for a person to judge: one HTML page that works offline, and the reader of the file that it saves.

The page shows left and right, not base and tuned; which is which follows from a hash of the page's seed and the id, so
that no key file can be lost and nothing on the page gives it away at a glance.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.rows import write_whole
from eval.judge.games import Pair, is_identical
from eval.judge.quoting import without_control

ITEMS = 30
FORMAT = "provetune-labels-1"
CHOICES = ("left", "right", "tie")


def labelling_page(items: Sequence[Pair], out: Path, seed: int = 0, count: int = ITEMS) -> Path:
    """Write the page with `count` pairs (all, where there are fewer), chosen and ordered by a hash; returns its path.

    Keys: 1 or ← left, 2 or → right, 0 or t tie, j and k next and previous, s save. Equal answers are left out.
    """
    from jinja2 import Environment

    ordered = sorted(
        (item for item in items if not is_identical(item)), key=lambda item: _digest(seed, "pick", item.id)
    )
    if not ordered:
        raise DataError("labelling page: no pair of different answers; label another data set or model")
    shown = [_shown(item, seed) for item in ordered[:count]]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    text = page.render(items=shown, format=FORMAT, seed=seed, page=_digest(seed, *(item["id"] for item in shown)))
    write_whole(out, text.encode("utf-8", "replace"))
    return out


def read_labels(path: Path) -> dict[str, str]:
    """id → `tuned`, `base` or `tie` from the file that the page saved; pairs without a choice are not in it.

    Raises DataError for a file that is no such file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"labels {path}: missing; open the labelling page, judge, and save (key s)") from None
    except (OSError, ValueError) as error:
        raise DataError(f"labels {path}: cannot be read ({error}); save them from the labelling page again") from error
    if not isinstance(value, Mapping) or value.get("format") != FORMAT or not isinstance(value.get("labels"), list):
        raise DataError(f"labels {path}: not a file of {FORMAT}; save them from the labelling page")
    seed, labels = value.get("seed"), value["labels"]
    if not isinstance(seed, int):
        raise DataError(f"labels {path}: has no seed; save them from the labelling page again")
    return {name: _side(seed, name, choice, path) for name, choice in (_label(item, path) for item in labels)}


def _label(item: Any, path: Path) -> tuple[str, str]:
    name, choice = (item.get("id"), item.get("choice")) if isinstance(item, Mapping) else (None, None)
    if not isinstance(name, str) or choice not in CHOICES:
        raise DataError(f"labels {path}: {name!r} has the choice {choice!r}; allowed are {', '.join(CHOICES)}")
    return name, choice


def _side(seed: int, name: str, choice: str, path: Path) -> str:
    if choice == "tie":
        return "tie"
    return "tuned" if (choice == "left") == _tuned_is_left(seed, name) else "base"


def _tuned_is_left(seed: int, name: str) -> bool:
    return int(_digest(seed, "side", name)[:8], 16) % 2 == 0


def _shown(item: Pair, seed: int) -> dict[str, str]:
    left, right = (item.tuned, item.base) if _tuned_is_left(seed, item.id) else (item.base, item.tuned)
    return {"id": item.id, "request": without_control(item.request), "left": left, "right": right}


def _digest(seed: int, *parts: str) -> str:
    return hashlib.sha256(json.dumps([seed, *parts]).encode()).hexdigest()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Which answer is better?</title>
<style>
:root { color-scheme: light dark; --line: #8886; --chosen: #2a6fdb; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem 1rem 6rem; }
article { display: none; } article.now { display: block; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 0; }
.request, .answer { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; }
.answers { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin-top: 1rem; }
@media (max-width: 45rem) { .answers { grid-template-columns: 1fr; } }
h2 { font-size: 1rem; margin: 0 0 .5rem; }
footer { position: fixed; inset: auto 0 0; padding: .75rem 1rem; background: Canvas; border-top: 1px solid var(--line);
  display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; justify-content: center; }
button { font: inherit; padding: .4rem .9rem; border: 1px solid var(--line); border-radius: .5rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--chosen); color: #fff; }
button:focus-visible { outline: 3px solid var(--chosen); outline-offset: 2px; }
</style>
</head>
<body data-format="{{ format }}" data-seed="{{ seed }}" data-page="{{ page }}">
<h1>Which answer is better?</h1>
<p>Judge what helps the person who asked. Length and place are no reason. Keys: <kbd>1</kbd> left, <kbd>2</kbd> right,
<kbd>0</kbd> tie, <kbd>j</kbd> next, <kbd>k</kbd> previous, <kbd>s</kbd> save. Nothing leaves this page but the file
that you save.</p>
<noscript><p>This page needs JavaScript to record your choices.</p></noscript>
<main>
{% for item in items %}
<article data-id="{{ item.id }}" aria-label="Pair {{ loop.index }} of {{ items|length }}">
<section class="request"><h2>Request</h2><pre dir="auto">{{ item.request }}</pre></section>
<div class="answers">
<section class="answer"><h2>Left</h2><pre dir="auto">{{ item.left or "(empty)" }}</pre></section>
<section class="answer"><h2>Right</h2><pre dir="auto">{{ item.right or "(empty)" }}</pre></section>
</div>
</article>
{% endfor %}
</main>
<footer>
<button data-move="-1" title="k">Previous</button>
<button data-choice="left" aria-pressed="false" title="1">Left is better</button>
<button data-choice="tie" aria-pressed="false" title="0">Tie</button>
<button data-choice="right" aria-pressed="false" title="2">Right is better</button>
<button data-move="1" title="j">Next</button>
<button data-save title="s">Save labels</button>
<span role="status" aria-live="polite"></span>
</footer>
<script>
"use strict";
const body = document.body.dataset, pairs = [...document.querySelectorAll("article")];
const store = "labels-" + body.page, status = document.querySelector("[role=status]");
let now = 0, chosen = {};
try { chosen = JSON.parse(localStorage.getItem(store)) || {}; } catch { chosen = {}; }
function show() {
  pairs.forEach((pair, place) => pair.classList.toggle("now", place === now));
  const choice = chosen[pairs[now].dataset.id];
  document.querySelectorAll("[data-choice]").forEach(b => b.setAttribute("aria-pressed", b.dataset.choice === choice));
  status.textContent = `${now + 1} of ${pairs.length}, ${Object.keys(chosen).length} judged`;
}
function move(step) { now = Math.min(pairs.length - 1, Math.max(0, now + step)); window.scrollTo(0, 0); show(); }
function choose(choice) {
  chosen[pairs[now].dataset.id] = choice;
  try { localStorage.setItem(store, JSON.stringify(chosen)); } catch { /* a private window keeps nothing */ }
  show();
  if (now < pairs.length - 1) setTimeout(() => move(1), 150);
}
function save() {
  const ids = pairs.map(pair => pair.dataset.id).filter(id => chosen[id]);
  const labels = ids.map(id => ({ id, choice: chosen[id] }));
  const value = { format: body.format, seed: Number(body.seed), page: body.page, labels };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(value, null, 1)], { type: "application/json" }));
  link.download = "labels.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const keys = { 1: "left", 2: "right", 0: "tie", t: "tie", ArrowLeft: "left", ArrowRight: "right" };
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (keys[event.key]) { choose(keys[event.key]); event.preventDefault(); }
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "s") save();
});
document.querySelector("footer").addEventListener("click", event => {
  const { choice, move: step, save: saves } = event.target.dataset;
  if (choice) choose(choice); else if (step) move(Number(step)); else if (saves !== undefined) save();
});
show();
</script>
</body>
</html>
"""
