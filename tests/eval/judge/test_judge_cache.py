"""Verdicts are kept as they come, whole or not at all; failures are not kept."""

import json
import threading
from pathlib import Path

from eval.judge.cache import VerdictCache, verdict_key
from eval.judge.prompts import Question
from eval.judge.replies import Reply

QUESTION = Question("q", "a", "b", None)


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep/cache.jsonl"
    reply = Reply(label="A", probabilities={"A": 0.7, "B": 0.2, "tie": 0.1}, rationale="wé \ud800 \u2028")
    VerdictCache(path).put("k", reply)
    assert VerdictCache(path).get("k") == reply
    assert VerdictCache(path).get("other") is None


def test_failures_are_never_kept(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path / "cache.jsonl")
    cache.put("k", Reply(failure="timed out after 1 s"))
    assert cache.get("k") is None and not (tmp_path / "cache.jsonl").exists()


def test_a_torn_line_costs_one_verdict_and_none_after_it(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    for key in ("one", "two"):
        VerdictCache(path).put(key, Reply(label="A"))
    path.write_bytes(path.read_bytes()[:-9])
    cache = VerdictCache(path)
    assert cache.get("one") == Reply(label="A") and cache.get("two") is None
    cache.put("three", Reply(label="B"))
    again = VerdictCache(path)
    assert again.get("one") and again.get("three") == Reply(label="B") and again.get("two") is None


def test_lines_that_are_no_verdicts_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    lines = ["null", "[]", '{"key": 1, "label": "A"}', '{"key": "k"}', "\ufffd", '{"key": "k", "label": null}']
    path.write_text("\n".join(lines) + "\n")
    assert VerdictCache(path).known == {}


def test_two_writers_do_not_tear_each_other_s_lines(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"

    def write(name: str) -> None:
        cache = VerdictCache(path)
        for number in range(50):
            cache.put(f"{name}{number}", Reply(label="A", rationale="x" * 5000))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(VerdictCache(path).known) == 100
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_the_key_changes_with_all_that_a_verdict_depends_on() -> None:
    keys = {
        verdict_key({"m": 1}, "t", QUESTION),
        verdict_key({"m": 2}, "t", QUESTION),
        verdict_key({"m": 1}, "u", QUESTION),
        verdict_key({"m": 1}, "t", QUESTION._replace(first="b", second="a")),
        verdict_key({"m": 1}, "t", QUESTION._replace(second=None)),
        verdict_key({"m": 1}, "t", QUESTION._replace(reference="r")),
        verdict_key({"m": 1}, "t", QUESTION._replace(request="p")),
    }
    assert len(keys) == 7
