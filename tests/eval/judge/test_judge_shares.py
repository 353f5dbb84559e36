"""Questions to a judge shared by several processes: each is asked once, and failures too; the summary is the same."""

from pathlib import Path

import pytest

from eval.judge.prompts import Question
from eval.judge.replies import Reply
from eval.judge.run import judge, judge_share
from eval.shares import Share, taking
from tests.eval.judge.conftest import QUICK, Oracle, anyone, longer_wins, rows

BASE, TUNED = rows([f"answer {'x' * n}" for n in range(9)]), rows([f"{'y' * (16 - n)}" for n in range(9)])


def sometimes(question: Question) -> Reply:
    return Reply(failure="no verdict in the reply") if "y" * 12 in question.first else longer_wins(question)


@pytest.mark.parametrize("total", [1, 2, 3, 40])
def test_every_question_is_asked_once(total: int, tmp_path: Path) -> None:
    alone = judge(anyone(), BASE, TUNED, tmp_path / "alone", QUICK, backends=[whole := Oracle(sometimes)])
    asked, failed = list[Question](), dict[str, str]()
    for index in range(total):
        backend = Oracle(sometimes)
        with taking(Share(index, total)):
            failed |= judge_share(anyone(), BASE, TUNED, tmp_path / "many" / "cache.jsonl", [backend])
        asked += backend.asked
    assert sorted(asked, key=str) == sorted(whole.asked, key=str) and len(asked) == 18
    assert len(failed) == 5 and set(failed.values()) == {"no verdict in the reply"}
    merging = Oracle(lambda _: pytest.fail("asked again"))
    merged = judge(anyone(), BASE, TUNED, tmp_path / "many", QUICK, backends=[merging], failed=failed)
    assert merged == alone
    files = [(tmp_path / name / "verdicts.jsonl").read_bytes() for name in ("alone", "many")]
    assert files[0] == files[1]


def test_failures_are_asked_again_on_another_day(tmp_path: Path) -> None:
    with taking(Share(1, 2)):
        judge_share(anyone(), BASE, TUNED, tmp_path / "cache.jsonl", [Oracle(sometimes)])
    backend = Oracle(longer_wins)
    with taking(Share(1, 2)):
        assert judge_share(anyone(), BASE, TUNED, tmp_path / "cache.jsonl", [backend]) == {}
    assert backend.asked and all(sometimes(question).failure for question in backend.asked)
