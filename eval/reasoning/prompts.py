"""Problems as prompts: the instruction to think, and solved examples before the problem."""

from collections.abc import Sequence

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from eval.measures.answers import extract_number
from eval.reasoning.config import ReasoningConfig
from eval.samples import choose


def with_numbers(rows: Sequence[Row], broken: list[str]) -> list[Row]:
    """The rows whose reference states a number; the others are named in `broken`. DataError where there are none."""
    kept = []
    for row in rows:
        if extract_number(row.get("completion") or "") is None:
            broken.append(f"row {row['id']}: its reference states no number")
        else:
            kept.append(row)
    if not kept:
        raise DataError(f"{broken[0]}, nor does any other of {len(rows)} rows; measure them by exact_match or f1")
    return kept


def problem_rows(rows: Sequence[Row], config: ReasoningConfig, pool: Sequence[Row], kind: str) -> list[Row]:
    """The chosen rows with instruction and solved examples, which a template of `kind` chat puts into turns.

    DataError where there are too few solved examples.
    """
    chosen = choose(list(rows), config.max_rows)
    solved = choose(list(pool or rows), None)
    return [_asked(row, config, _shots(row, config, solved), kind) for row in chosen]


def _shots(row: Row, config: ReasoningConfig, solved: Sequence[Row]) -> list[Row]:
    others = [other for other in solved if other["id"] != row["id"]][: config.shots]
    if len(others) < config.shots:
        raise DataError(f"shots={config.shots}: there are {len(others)} solved examples; lower it, or add train rows")
    return others


def _asked(row: Row, config: ReasoningConfig, shots: Sequence[Row], kind: str) -> Row:
    """A prompt and completion row, or a conversation of the same where the solved examples are turns."""
    question, answer = _problem(row, config)
    if not shots:
        return {"id": row["id"], "prompt": question, "completion": answer}
    if kind == "plain":
        before = "".join(f"{asked}\n{solved}\n\n" for asked, solved in (_problem(shot, config) for shot in shots))
        return {"id": row["id"], "prompt": before + question, "completion": answer}
    turns = [turn for shot in shots for turn in _turns(*_problem(shot, config))]
    return {"id": row["id"], "messages": [*turns, *_turns(question, answer)]}


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _problem(row: Row, config: ReasoningConfig) -> tuple[str, str]:
    if shape_of(row) != "prompt_completion":
        raise DataError(f"row {row['id']}: a reasoning task needs rows of prompt and completion (format, columns)")
    question = row["prompt"].rstrip()
    return (f"{question}\n{config.instruction}" if config.instruction else question), row["completion"]
