"""Shares of one job: every row exactly once, whoever is killed, whatever the number of processes; equal bytes."""

import json
import random
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import GenerationConfig, PerplexityConfig
from eval.predict import predict
from eval.predictions import predict_as_finished, predict_resumably, read_predictions
from eval.shares import Share, ShareKept, files_of, forget, taken, taking, with_shares

IDS = [f"row{n}" for n in range(23)]
SCORING, ANSWERING = PerplexityConfig(batch_size=2), GenerationConfig(max_new_tokens=4, batch_size=3, max_rows=9)


class Killed(BaseException):
    """Stands for kill -9: nothing that comes after it runs."""


class Job:
    """Rows computed one by one or in batches of 4; `log` tells what was computed, `kill_in` after how many rows."""

    def __init__(self, path: Path, batched: bool = False):
        self.path, self.batched, self.log = path, batched, list[str]()
        self.kill_in = 10**9

    def go(self, key: str = "k") -> list[dict[str, Any]]:
        if self.batched:
            batches = [[(name, name) for name in IDS[start : start + 4]] for start in range(0, len(IDS), 4)]
            return predict_resumably(self.path, key, batches, lambda names: [self._row(name) for name in names])
        return predict_as_finished(self.path, key, IDS, self._rows)

    def _rows(self, left: Set[str]) -> Iterator[dict[str, Any]]:
        yield from (self._row(name) for name in sorted(left))

    def _row(self, name: str) -> dict[str, Any]:
        self.kill_in -= 1
        if self.kill_in < 0:
            raise Killed
        self.log.append(name)
        return {"id": name, "value": name.upper()}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("total", [1, 2, 3, 30])
def test_shares_make_every_row_once_and_the_merge_makes_none(total: int, batched: bool, tmp_path: Path) -> None:
    job = Job(tmp_path / "a.partial", batched)
    for index in random.Random(total).sample(range(total), total):  # in any order
        with taking(Share(index, total)), pytest.raises(ShareKept):
            job.go()
    assert sorted(job.log) == sorted(IDS) and taken() is None
    job.kill_in = 0
    assert [row["id"] for row in job.go()] == IDS
    forget(job.path)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(
    tries=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 25), st.booleans()), max_size=12),
    batched=st.booleans(),
)
def test_whatever_was_killed_nothing_finished_is_computed_twice(
    tmp_path_factory: pytest.TempPathFactory, tries: list[tuple[int, int, int, bool]], batched: bool
) -> None:
    job = Job(tmp_path_factory.mktemp("shares") / "a[1].partial", batched)
    kills = 0
    for total, index, rows, torn in tries:
        job.kill_in = rows
        try:
            with taking(Share(index % total, total)):
                job.go()
        except ShareKept:
            continue
        except Killed:
            kills += 1
        if torn:  # the machine died in the middle of a line
            with files_of(job.path)[0].open("ab") as file:
                file.write(b'{"id": "row1", "val')
    job.kill_in = 10**9
    assert job.go() == [{"id": name, "value": name.upper()} for name in IDS]
    assert set(job.log) == set(IDS)
    # In flight is the row that was being computed, or the batch whose rows are written together.
    assert len(job.log) - len(IDS) <= (3 * kills if batched else 0)


def test_rows_of_another_key_do_not_count(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.partial")
    for index in range(2):
        with taking(Share(index, 2)), pytest.raises(ShareKept):
            job.go("old")
    job.log.clear()
    job.go("new")
    assert sorted(job.log) == sorted(IDS)


def test_a_share_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "a.partial"
    with taking(Share(0, 2)), pytest.raises(ShareKept):
        Job(path).go()
    held = []

    class Looks(Job):
        def _row(self, name: str) -> dict[str, Any]:
            with files_of(path)[1].open("ab") as other:
                try:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(name)
            return super()._row(name)

    with taking(Share(1, 2)), pytest.raises(ShareKept):
        Looks(path).go()
    assert held == sorted(IDS[1::2])


@pytest.mark.parametrize("total", [2, 3])
def test_predictions_do_not_depend_on_the_number_of_shares(
    total: int, model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path
) -> None:
    def go(out: str) -> dict[str, float]:
        return predict(model, tokenizer, rows_folder, "tiny", tmp_path / out, SCORING, ANSWERING, "plain")

    whole = go("one")
    shares = []
    for index in range(total):
        with taking(Share(index, total)):
            shares.append(go("many"))
    assert not (tmp_path / "many" / "tiny.perplexity.jsonl").exists()
    merged = with_shares(go("many"), shares)
    one, many = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "many"))
    assert one.keys() == many.keys()
    assert one["tiny.perplexity.jsonl"] == many["tiny.perplexity.jsonl"]  # its batches are the same: equal bytes
    assert one["tiny.generation.jsonl"] == many["tiny.generation.jsonl"]  # greedy text of float32 weights
    assert one["policies.json"] == many["policies.json"]
    counts = ("perplexity_rows", "perplexity_tokens", "generation_rows", "generation_tokens")
    assert {name: merged[name] for name in counts} == {name: whole[name] for name in counts}
    slowest = max(share["generation_seconds"] for share in shares)
    assert merged["generation_seconds"] > slowest
    assert merged["generation_tokens_per_second"] == merged["generation_tokens"] / merged["generation_seconds"]


def test_a_merge_that_finds_a_share_missing_computes_it(
    model: Any, tokenizer: Any, rows_folder: Path, tmp_path: Path
) -> None:
    for out, indexes in (("a", (0,)), ("b", ())):
        for index in indexes:
            with taking(Share(index, 2)):
                predict(model, tokenizer, rows_folder, "tiny", tmp_path / out, SCORING, None)
        predict(model, tokenizer, rows_folder, "tiny", tmp_path / out, SCORING, None)
    found = [read_predictions(tmp_path / out, "tiny", "perplexity") for out in ("a", "b")]
    assert found[0] == found[1] and len({json.dumps(row) for row in found[0]}) == 12
