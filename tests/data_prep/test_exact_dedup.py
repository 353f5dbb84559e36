"""Exact duplicates, against a plain dictionary of contents."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.curation.exact_dedup.config import ExactDedup
from data_prep.curation.exact_dedup.keys import KEY, compared_content, keys_of
from data_prep.curation.exact_dedup.order import keep_order, measure_of
from data_prep.curation.exact_dedup.resolve import load_keys, resolve, save_keys
from data_prep.curation.exact_dedup.url import normal_url
from data_prep.errors import DataError

TEXTS = st.sampled_from(["", "a", "A", "a ", "a  b", "A\nb", "c"])


def turn(role: str, content: str, **more: object) -> dict:
    return {"role": role, "content": content, **more}


def duplicates(rows: list[dict], **config: object) -> list[int]:
    return resolve(keys_of(rows, ExactDedup(**config)), np.arange(len(rows))).tolist()


@given(
    st.lists(st.tuples(TEXTS, st.booleans(), st.integers(0, 2)), max_size=20),
    st.sampled_from([{}, {"on": "prompt"}, {"on": "completion"}, {"ignore_case_and_spaces": True}]),
    st.randoms(),
)
@settings(max_examples=150, deadline=None)
def test_the_best_of_equal_rows_is_kept_as_by_a_dictionary(rows, config, shuffler: random.Random):
    texts = [{"id": str(number), "text": text} for number, (text, _, _) in enumerate(rows)]
    fails = np.array([fails for _, fails, _ in rows], dtype=bool)
    splits = np.array([split for _, _, split in rows], dtype=np.int64)
    position = np.array(shuffler.sample(range(len(rows)), len(rows)), dtype=np.int64)
    order = keep_order(fails, splits, np.zeros(len(rows)), position)
    step = ExactDedup(**config)
    found = resolve(keys_of(texts, step), order).tolist()
    groups: dict[str, list[int]] = {}
    for row, each in enumerate(texts):
        text = " ".join(each["text"].casefold().split()) if step.ignore_case_and_spaces else each["text"]
        groups.setdefault(f"{row}" if step.on != "row" and not text else f"text {text}", []).append(row)
    expected = [-1] * len(rows)
    for group in groups.values():
        kept = min(group, key=lambda row: (fails[row], splits[row], position[row]))
        for row in group:
            expected[row] = -1 if row == kept else kept
    assert found == expected


def test_what_is_compared_of_each_shape():
    asks, answers = turn("user", "hi"), turn("assistant", "", tool_calls=[{"name": "f"}])
    chat = {"id": "1", "messages": [turn("system", "s"), asks, answers, turn("user", "more"), turn("assistant", "x")]}
    pair = {"id": "2", "prompt": "p", "chosen": "c", "rejected": "r", "meta": {"url": "u"}, "source": "s", "label": 1}
    content = {
        on: [compared_content(row, ExactDedup(on=on)) for row in (chat, pair)] for on in ("prompt", "completion")
    }
    assert json.loads(content["prompt"][0]) == [turn("system", "s"), asks] and content["prompt"][1] == "p"
    assert content["completion"] == [[answers, turn("assistant", "x")], ["c", "r"]]
    assert compared_content(pair, ExactDedup()) == {"prompt": "p", "chosen": "c", "rejected": "r", "label": 1}


def test_rows_differ_by_label_tools_and_order_of_turns_but_not_by_source():
    row = {"id": "a", "source": "x", "messages": [turn("user", "q"), turn("assistant", "a")]}
    rows = [row, {**row, "tools": []}, {**row, "messages": row["messages"][::-1]}, {**row, "source": "y", "meta": {}}]
    assert duplicates(rows) == [-1, -1, -1, 0]


def test_an_empty_side_repeats_nothing():
    rows = [{"id": "1", "prompt": "", "completion": "a"}, {"id": "2", "prompt": "", "completion": "b"}]
    rows += [{"id": "3", "messages": [turn("assistant", "a")]}, {"id": "4", "messages": [turn("assistant", "b")]}]
    rows += [{"id": "5", "prompt": "p", "completion": "a"}]
    assert duplicates(rows, on="prompt") == [-1] * 5
    assert duplicates(rows, on="completion") == [-1, -1, -1, -1, 0]
    pairs = [{"id": str(number), "prompt": "p", "chosen": "", "rejected": ""} for number in range(2)]
    assert duplicates(pairs, on="completion") == [-1, -1]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("HTTP://Example.COM:80/a/?utm_source=x&b=1#top", "http://example.com/a?b=1", True),
        ("https://e.org:443", "https://e.org/", True),
        ("https://e.org:8443/", "https://e.org/", False),
        ("https://e.org/a?b=1&c=2&fbclid=9", "https://e.org/a/?b=1&c=2", True),
        ("https://e.org/A", "https://e.org/a", False),
        ("http://e.org/a", "https://e.org/a", False),
        ("https://e.org/a?b=1&c=2", "https://e.org/a?c=2&b=1", False),
        ("http://User@[::1]:80/x", "http://User@[::1]/x/", True),
        ("http://[broken", " http://[broken ", True),
        ("http://e.org:port/", "http://e.org/", False),
        ("not a url", "not a URL", False),
    ],
)
def test_urls_of_one_page(first: str, second: str, same: bool):
    assert (normal_url(first) == normal_url(second)) == same
    assert normal_url(normal_url(first)) == normal_url(first)
    rows = [{"id": url, "text": url, "meta": {"url": url}} for url in (first, second)]
    assert duplicates(rows, on="field", field="url", normalise_url=True) == [-1, 0 if same else -1]


def test_a_field_of_any_type_and_rows_without_it():
    metas = [{"n": 3}, {"n": 3}, {"n": "3"}, {"n": None}, {"n": None}, {}, None, {"n": ""}, {"n": [1, "A "]}]
    rows = [{"id": str(number), "text": "t", "meta": meta} for number, meta in enumerate(metas)]
    assert duplicates(rows, on="field", field="n") == [-1, 0, *[-1] * 7]
    del rows[6]["meta"]
    assert duplicates(
        [*rows, {**rows[8], "meta": {"n": [1, "a"]}}], on="field", field="n", ignore_case_and_spaces=True
    )[-1] == (8)


def test_shards_are_joined_and_their_files_are_equal_bytes(tmp_path: Path):
    rows = [{"id": str(number), "text": f"t{number % 7}"} for number in range(40)]
    rows[3] = {"id": "s", "text": "\ud800 lone"}
    whole = keys_of(rows, ExactDedup())
    paths = []
    for start, stop in ((0, 13), (13, 13), (13, 40)):
        paths.append(tmp_path / f"{start}-{stop}.npy")
        save_keys(whole[start:stop].copy(), paths[-1])
    loaded = load_keys(paths)
    assert loaded.dtype == KEY and loaded.dtype.itemsize == 16 and (loaded == whole).all()
    assert (np.load(paths[0], allow_pickle=False) == whole[:13]).all()
    before = paths[2].read_bytes()
    save_keys(keys_of(rows[13:], ExactDedup()), paths[2])
    assert paths[2].read_bytes() == before
    paths[2].write_bytes(before[:-5])
    with pytest.raises(DataError) as error:
        load_keys(paths)
    assert "not a whole file of arrays" in str(error.value) and "delete it and run again" in str(error.value)


def test_keys_are_those_of_xxhash():
    import xxhash

    (key,) = keys_of([{"id": "1", "text": "é"}], ExactDedup())
    expected = xxhash.xxh3_128_intdigest('{"text": "é"}'.encode())
    assert (int(key["high"]) << 64) + int(key["low"]) == expected


def test_the_measures_of_the_rules():
    lengths = np.array([3, 9, 5], dtype=np.uint32)
    assert measure_of("longest", lengths).tolist() == [-3, -9, -5]
    assert measure_of("first", lengths).tolist() == [0, 0, 0]
    assert measure_of("best", lengths, [0.1, None, 0.9]).tolist() == [-0.1, np.inf, -0.9]
    assert measure_of("earliest", lengths, ["2024-05-01", None, "2023-01-01"]).tolist() == [1, 2, 0]
    assert measure_of("earliest", lengths, [2, float("nan"), 1.5]).tolist() == [1, 2, 0]
    with pytest.raises(DataError, match=r"keep: best needs a value for each of 3 rows, none given"):
        measure_of("best", lengths)
    with pytest.raises(DataError, match=r"keep: earliest has values without a common order .*; give one type"):
        measure_of("earliest", lengths, ["a", 1, None])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on": "field"}, "exact_dedup.on: field needs the name of a meta column; set exact_dedup.field, e.g. url"),
        ({"field": "url"}, "exact_dedup.on: row compares no field; set on=field, or leave field out"),
        ({"on": "prompt", "normalise_url": True}, "exact_dedup.on: prompt compares no field"),
    ],
)
def test_settings_that_do_nothing_are_refused(wrong: dict, message: str):
    with pytest.raises(ValidationError) as error:
        ExactDedup(**wrong)
    assert message in str(error.value)
