"""Plant near-duplicates, personal data and leaks into a sample of the user's rows."""

import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from data_prep.curation.config import CurationSteps
from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.decontamination.index import index_units
from data_prep.curation.decontamination.items import dataset_units
from data_prep.curation.decontamination.step import search_rows
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.pii.config import Pii
from data_prep.curation.self_test import leaks
from data_prep.curation.self_test.near_copies import can_copy, levels, near_copy
from data_prep.curation.self_test.personal import KINDS, invented
from data_prep.curation.self_test.truth import Path, Planted, Truth, longest, name_of, paths, replaced, text_at
from data_prep.rows import Row

SAMPLE = 200
"""Rows of the user's that are planted into, for each step."""
FEWEST_ROWS = 10
"""With fewer, shares mean nothing."""
LONGEST_TEXT = 200_000
"""Characters of a row that is planted into."""
PREFIX = "self-test"


def sample(rows: Sequence[Row], seed: int, size: int) -> list[Row]:
    """The rows with the lowest hashes of seed and id: the same ones whatever their order."""

    def rank(row: Row) -> bytes:
        return blake2b(f"{seed} {row['id']}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return sorted(rows, key=rank)[:size]


def plant(
    rows: Sequence[Row],
    steps: CurationSteps,
    eval_rows: Mapping[str, Sequence[Row]],
    seed: int,
    size: int = SAMPLE,
) -> Planted:
    """Plant for the steps that are on; the given rows stay as they are.

    Args:
        rows: the user's training rows (a larger sample of them is enough).
        steps: the configuration; only near_dedup, pii and decontamination are tested.
        eval_rows: name → rows of the evaluations that the decontamination looks for.
        seed: another one plants into other rows.
        size: rows that are planted into, for each step.
    """
    done = Planted([], [], {})
    planters = {"near_dedup": _near, "pii": _personal, "decontamination": _leaks}
    on = [name for name in planters if getattr(steps, name) is not None]
    usable = [row for row in rows if 0 < sum(len(text_at(row, path)) for path in paths(row)) <= LONGEST_TEXT]
    drawn = sample(usable, seed, size * len(on))
    for number, name in enumerate(on):
        # Other rows for each step: two cases in one row would disturb each other.
        mine = drawn[number :: len(on)]
        if len(mine) < FEWEST_ROWS:
            reason = f"not tested: {len(mine)} rows that can be planted into, at least {FEWEST_ROWS} are needed"
            done.not_tested[name] = reason
            continue
        planters[name](mine, getattr(steps, name), eval_rows, seed, random.Random(f"{seed} {name}"), done)
    return done


def _near(
    rows: list[Row],
    config: NearDedup,
    eval_rows: Mapping[str, Sequence[Row]],
    seed: int,
    draw: random.Random,
    done: Planted,
) -> None:
    wanted, fit = levels(config), [row for row in rows if can_copy(row, config)]
    if len(fit) < FEWEST_ROWS:
        done.not_tested["near_dedup"] = (
            f"not tested: {len(fit)} of {len(rows)} rows are long enough to be changed a little"
        )
        return
    pool = [f"{stem}{number}" for number, stem in enumerate(["planted", "changed", "other", "altered"] * 250)]
    for number, row in enumerate(fit):
        level, expected = list(wanted.items())[number % len(wanted)]
        identity = f"{PREFIX}-near-{number}"
        base = {**row, "id": f"{identity}-base"}
        made = near_copy(row, level, config, pool, draw, identity)
        if made is None:
            continue
        done.rows.extend((base, made[0]))
        done.truths.append(Truth("near_dedup", f"{level:g}", expected, identity, base["id"], made[1]))


def _personal(
    rows: list[Row], config: Pii, eval_rows: Mapping[str, Sequence[Row]], seed: int, draw: random.Random, done: Planted
) -> None:
    kinds = [kind for kind in KINDS if kind in config.kinds]
    if not kinds:
        done.not_tested["pii"] = f"not tested: of the kinds that can be planted ({', '.join(KINDS)}) none is looked for"
    for number, row in enumerate(rows if kinds else []):
        path = longest(row, paths(row))
        if path is None:
            continue
        kind, genuine = kinds[number // 2 % len(kinds)], number % 2 == 0
        sentence, start, end = invented(kind, genuine, seed, number)
        identity = f"{PREFIX}-pii-{number}"
        # In front of the text: whatever else is edited in it, these characters stay where they are.
        done.rows.append(replaced(row, path, f"{sentence}\n\n{text_at(row, path)}", identity))
        done.truths.append(Truth("pii", kind, genuine, identity, part=name_of(path), start=start, end=end))


def _leaks(
    rows: list[Row],
    config: Decontamination,
    eval_rows: Mapping[str, Sequence[Row]],
    seed: int,
    draw: random.Random,
    done: Planted,
) -> None:
    items = [leaks.item_of(name, row) for name in sorted(eval_rows) for row in sample(eval_rows[name], seed, SAMPLE)]
    guises = [(item, kind) for item in items for kind in leaks.VARIATIONS if leaks.can_vary(item, kind)]
    if not guises:
        done.not_tested["decontamination"] = (
            f"not tested: none of {len(items)} evaluation items has a question of {leaks.SHORTEST} words"
        )
        return
    hosts = _clean_hosts(rows, config, eval_rows)
    if len(hosts) < FEWEST_ROWS:
        done.not_tested["decontamination"] = f"not tested: {len(hosts)} of {len(rows)} rows hold no item already"
        return
    texts = [text_at(row, path) for row, path in hosts]
    for number, (row, path) in enumerate(hosts):
        case = _case(number, guises, texts, text_at(row, path), draw)
        if case is None:
            continue
        kind, expected, item, text = case
        identity = f"{PREFIX}-leak-{number}"
        done.rows.append(replaced(row, path, text, identity))
        done.truths.append(Truth("decontamination", kind, expected, identity, item=item))


def _case(
    number: int, guises: list[tuple[leaks.Item, str]], texts: list[str], host: str, draw: random.Random
) -> tuple[str, bool, str, str] | None:
    """(kind, expected, item, text): in turn a whole leak, an embedded one, and two look-alikes."""
    item, guise = draw.choice(guises)
    if number % 4 < 2:
        text = leaks.VARIATIONS[guise](item, draw)
        whole = number % 4 == 0
        return "whole" if whole else "embedded", True, item.item, text if whole else leaks.embed(text, host, draw)
    kinds = list(leaks.LOOKALIKES)
    draw.shuffle(kinds)
    for kind in kinds:
        text = leaks.LOOKALIKES[kind](item, texts, draw)
        if text is not None:
            return f"look-alike: {kind}", False, item.item, text
    return None


def _clean_hosts(
    rows: list[Row], config: Decontamination, eval_rows: Mapping[str, Sequence[Row]]
) -> list[tuple[Row, Path]]:
    """Rows without anything of the evaluations: a leak of the user's own in a look-alike would count against it."""
    units = (unit for name in sorted(eval_rows) for unit in dataset_units(name, eval_rows[name], config))
    found, _ = search_rows(rows, index_units(units, config), config)
    with_paths = [(row, longest(row, paths(row))) for row, matches in zip(rows, found, strict=True) if not matches]
    return [(row, path) for row, path in with_paths if path is not None and text_at(row, path).strip()]
