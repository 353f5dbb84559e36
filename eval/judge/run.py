"""Judge two models' answers: the entry point. The folder it leaves holds everything that the numbers come from.

verdicts.jsonl   one row per pair, judge and order: {"id", "cluster", "judge", "order", "winner", "preference",
                 "failure", "identical", "base_characters", "tuned_characters"[, "probabilities", "rationale"]}
summary.json     {"metrics", "comparisons", "card", "judges", "policy"}
cache.jsonl      verdicts that need not be asked for again (or where `cache` says)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import write_whole
from eval.config import StatisticsConfig
from eval.judge.backend import Backend, backend_of
from eval.judge.cache import VerdictCache, verdict_key
from eval.judge.config import JudgeConfig
from eval.judge.family import ModelIdentity, check_families
from eval.judge.games import Pair, Verdict, is_identical, pairs_of, questions_of, verdicts_of
from eval.judge.prompts import Question, template_sha256
from eval.judge.replies import Reply
from eval.judge.summary import summarise_verdicts
from eval.shares import Share, taken

VERDICTS, SUMMARY, CACHE = "verdicts.jsonl", "summary.json", "cache.jsonl"


def judge(
    config: JudgeConfig,
    base: Sequence[Mapping[str, Any]],
    tuned: Sequence[Mapping[str, Any]],
    out: Path,
    statistics: StatisticsConfig | None = None,
    candidates: Sequence[ModelIdentity] = (),
    labels: Mapping[str, str] | None = None,
    cache: Path | None = None,
    track: Track = silent,
    backends: Sequence[Backend] | None = None,
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compare rows {"id", "prompt", "output"[, "reference"]} of two models; returns what summary.json holds.

    `candidates`: the models under test, so that no judge of their family judges. `labels`: a person's choices
    (`eval.judge.labelling.read_labels`). `backends`: judges in place of those of the configuration, for tests and for
    models in memory. `failed`: what `judge_share` returned, so that it is not asked again here. Finished verdicts are
    kept as they come: the same call goes on where it was stopped. Raises DataError before anything is asked where the
    answers do not fit or a judge is refused; and for a judge that is down.
    """
    statistics = statistics or StatisticsConfig()
    pairs = pairs_of(base, tuned, config)
    asked = list(backends) if backends is not None else [backend_of(item) for item in config.judges]
    self_preference = check_families([item.model for item in asked], candidates, config.force_own_family)
    store = VerdictCache(cache or out / CACHE)
    verdicts: list[Verdict] = []
    for backend in asked:
        replies = replies_to(backend, pairs, config, store, track, failed or {})
        verdicts += [row for pair in pairs for row in verdicts_of(pair, backend.name, replies[pair.id], config)]
    _write(out / VERDICTS, "".join(_line(row) for row in verdicts))
    injections = _injections(asked, config, pairs, store, track)
    summary = summarise_verdicts(verdicts, config, statistics, labels, self_preference, injections)
    summary["judges"] = [{"name": item.name, **item.identity} for item in asked]
    summary["policy"] = _policy(config, asked)
    _write(out / SUMMARY, json.dumps(summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return summary


def _injections(
    asked: Sequence[Backend], config: JudgeConfig, pairs: Sequence[Pair], store: VerdictCache, track: Track
) -> dict[str, Any]:
    """How often texts inside answers turn each judge, where that is asked for."""
    if not config.injections:
        return {}
    from eval.judge.robustness import told_robustness  # it needs scipy

    return {item.name: told_robustness(item, config, pairs, store, track) for item in asked}


def judge_share(
    config: JudgeConfig,
    base: Sequence[Mapping[str, Any]],
    tuned: Sequence[Mapping[str, Any]],
    cache: Path,
    backends: Sequence[Backend],
    candidates: Sequence[ModelIdentity] = (),
    track: Track = silent,
) -> dict[str, str]:
    """Ask judges that run here the questions of this process's share (`eval.shares`); verdicts go into `cache`.

    Returns why questions failed, by their keys: failures are never cached, and `judge` takes them instead of asking
    again. DataError as `judge`.
    """
    check_families([item.model for item in backends], candidates, config.force_own_family)
    store, share = VerdictCache(cache), taken() or Share(0, 1)
    failed: dict[str, str] = {}
    for backend in backends:
        keys, known, missing = _questions(backend, pairs_of(base, tuned, config), config, store)
        mine = set(share.of(list(dict.fromkeys(keys)))) - known.keys()
        replies = _ask(backend, config, {key: missing[key] for key in missing if key in mine}, store, track)
        failed |= {key: reply.failure for key, reply in replies if reply.failure is not None}
    return failed


def replies_to(
    backend: Backend,
    pairs: Sequence[Pair],
    config: JudgeConfig,
    store: VerdictCache,
    track: Track = silent,
    failed: Mapping[str, str] | None = None,
) -> dict[str, list[Reply]]:
    """Both replies to each pair, by its id; from the cache where they are known, and kept there as they come."""
    keys, known, missing = _questions(backend, pairs, config, store)
    known |= {key: Reply(failure=failure) for key, failure in (failed or {}).items() if key in missing}
    left = {key: question for key, question in missing.items() if key not in known}
    known |= dict(_ask(backend, config, left, store, track))
    unasked = Reply(failure="not asked")
    whole = [known.get(key, unasked) for key in keys]
    return {pair.id: whole[2 * place : 2 * place + 2] for place, pair in enumerate(pairs)}


def _questions(
    backend: Backend, pairs: Sequence[Pair], config: JudgeConfig, store: VerdictCache
) -> tuple[list[str], dict[str, Reply], dict[str, Question]]:
    """The key of each question in order, the replies that are known, and the questions that are not."""
    template = template_sha256(config, backend.label_only)
    questions = [question for pair in pairs for question in questions_of(pair, config)]
    keys = [verdict_key(backend.identity, template, question) for question in questions]
    known = {key: reply for key in keys if (reply := store.get(key)) is not None}
    if config.kind != "pointwise":  # nobody is asked which of two equal texts is better
        same = [is_identical(pair) for pair in pairs for _ in range(2)]
        known |= {key: Reply(label="tie") for key, equal in zip(keys, same, strict=True) if equal}
    missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
    return keys, known, missing


def _ask(
    backend: Backend, config: JudgeConfig, missing: Mapping[str, Question], store: VerdictCache, track: Track
) -> Iterator[tuple[str, Reply]]:
    """Replies as they come, each kept at once."""
    names, found = list(missing), backend.ask(config, list(missing.values()))
    for index, reply in track(found, f"judging by {backend.name}", total=len(names)):
        store.put(names[index], reply)
        yield names[index], reply


def read_verdicts(folder: Path) -> list[Verdict]:
    """The rows of a finished folder, from which `summarise_verdicts` computes everything again without a judge."""
    path = folder / VERDICTS
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        raise DataError(f"{path}: missing; judge again") from None
    except ValueError as error:
        raise DataError(
            f"{path}: damaged ({error}); delete it and judge again, the cache keeps the verdicts"
        ) from error


def _policy(config: JudgeConfig, asked: Sequence[Backend]) -> dict[str, Any]:
    """How it was judged, for the report: kind, votes, and a hash of the words that each judge read."""
    return {
        "kind": config.kind,
        "vote": config.vote,
        "weighted": config.weighted,
        "length_penalty": config.length_penalty,
        "templates": {item.name: template_sha256(config, item.label_only) for item in asked},
    }


def _line(row: Verdict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode("utf-8", "replace"))
