"""Packing and corruption: nothing is lost, nothing is repeated, and rows are as full as TRL's."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tokens.corruption import corrupt_spans, generator, mask_tokens
from data_prep.tokens.packing import Packed, Piece, apart, best_fit, concatenate

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def documents(lengths: list[int]) -> list[Piece]:
    starts = np.cumsum([0, *lengths])
    return [(str(n), list(range(starts[n], starts[n] + length))) for n, length in enumerate(lengths)]


def put_together(rows: list[Packed]) -> dict[str, list[int]]:
    """Each document's tokens, in the order in which its pieces hold them."""
    found: dict[str, list[int]] = {}
    for row in rows:
        assert sum(row.lengths) == len(row.input_ids) and len(row.documents) == len(row.lengths)
        place = 0
        for name, length in zip(row.documents, row.lengths, strict=True):
            found.setdefault(name, []).extend(row.input_ids[place : place + length])
            place += length
    return {name: sorted(tokens) for name, tokens in found.items()}


@pytest.mark.parametrize("pack", [apart, concatenate, best_fit])
@given(lengths=LENGTHS, longest=st.integers(2, 17))
def test_every_token_is_there_once(pack, lengths: list[int], longest: int) -> None:
    given_documents = documents(lengths)
    rows = list(pack(given_documents, longest))
    assert put_together(rows) == dict(given_documents)
    assert max(len(row.input_ids) for row in rows) <= longest


@given(lengths=LENGTHS, longest=st.integers(2, 17))
def test_concatenated_rows_are_full(lengths: list[int], longest: int) -> None:
    rows = list(concatenate(documents(lengths), longest))
    assert all(len(row.input_ids) == longest for row in rows[:-1])
    assert [token for row in rows for token in row.input_ids] == list(range(sum(lengths)))


@given(lengths=LENGTHS, longest=st.integers(2, 17))
def test_best_fit_cuts_only_what_is_too_long(lengths: list[int], longest: int) -> None:
    rows = list(best_fit(documents(lengths), longest))
    pieces = sum(len(row.lengths) for row in rows)
    assert pieces == sum(-(-length // longest) for length in lengths)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, longest=st.integers(2, 17))
def test_best_fit_needs_as_many_rows_as_trl(lengths: list[int], longest: int) -> None:
    from datasets import Dataset
    from trl import pack_dataset

    plain = Dataset.from_dict({"input_ids": [tokens for _, tokens in documents(lengths)]})
    theirs = pack_dataset(plain, seq_length=longest, strategy="bfd_split")
    ours = list(best_fit(documents(lengths), longest))
    assert sorted(len(row.input_ids) for row in ours) == sorted(len(ids) for ids in theirs["input_ids"])


@given(st.lists(st.integers(10, 99), min_size=2, max_size=80), st.floats(0.05, 0.8), st.floats(1, 5), st.integers())
def test_gaps_and_targets_make_the_text_again(tokens: list[int], share: float, span: float, seed: int) -> None:
    sentinels = list(range(1000, 1100))
    inputs, targets = corrupt_spans(tokens, share, span, sentinels, generator(seed))
    gaps: dict[int, list[int]] = {}
    for token in targets:
        if token >= 1000:
            gap = gaps.setdefault(token, [])
        else:
            gap.append(token)  # pyright: ignore[reportPossiblyUnboundVariable]
    used = [token for token in inputs if token >= 1000]
    assert used == sentinels[: len(used)] and list(gaps) == sentinels[: len(used) + 1]
    assert all(gaps[name] for name in used) and not gaps[sentinels[len(used)]]
    assert [part for token in inputs for part in (gaps[token] if token >= 1000 else [token])] == tokens
    assert sum(map(len, gaps.values())) == min(max(1, round(len(tokens) * share)), len(tokens) - 1)


def test_hidden_tokens_are_shared_out_as_in_bert() -> None:
    tokens, ordinary = list(range(100, 300)) * 50, np.arange(100, 1000)
    inputs, labels = mask_tokens(tokens, 0.15, 4, ordinary, generator(1))
    hidden = [place for place, label in enumerate(labels) if label != -100]
    assert len(hidden) == 1500 and all(labels[place] == tokens[place] for place in hidden)
    masked = sum(inputs[place] == 4 for place in hidden) / 1500
    kept = sum(inputs[place] == tokens[place] for place in hidden) / 1500
    assert masked == pytest.approx(0.8, abs=0.03) and kept == pytest.approx(0.1, abs=0.03)
    assert all(inputs[place] == tokens[place] for place in range(len(tokens)) if labels[place] == -100)
    runs = [len(list(run)) for is_hidden, run in groupby(label != -100 for label in labels) if is_hidden]
    assert np.mean(runs) < 1.4  # single tokens, not spans


def test_draws_depend_on_names_alone() -> None:
    assert (
        generator(1, "row", 2).integers(1000, size=4).tolist() == generator(1, "row", 2).integers(1000, size=4).tolist()
    )
    assert (
        generator(1, "row", 2).integers(1000, size=4).tolist() != generator(1, "row", 3).integers(1000, size=4).tolist()
    )
