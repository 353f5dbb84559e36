"""`python -m data_prep why ID`: everything the ledger knows about one row."""

from pathlib import Path
from typing import Any

from pydantic import Field

from data_prep.commands.cli import UsageError
from data_prep.errors import DataError
from data_prep.gate import build
from data_prep.strict import StrictModel

MOST = 20


class WhyCommand(StrictModel):
    """Where to look."""

    folder: str = Field(default=".", alias="in")
    """A folder with ledgers: of a curation alone, an artifact, or all outputs of the pipeline."""


def run(words: list[str], settings: dict[str, Any]) -> None:
    """Print every measure of the rows whose id begins with the given characters, and every reason against them."""
    if len(words) != 1:
        raise UsageError("why: give one id, or its beginning, e.g. why 1a2b3c4d in=outputs")
    folder = Path(build(WhyCommand, settings, "", UsageError).folder).expanduser()
    found = [(ledger, row) for ledger in ledgers(folder) for row in rows_with(ledger, words[0])]
    if not found:
        raise DataError(f"{words[0]}: no row of the ledgers under {folder} has this id; look at ledger.parquet")
    for ledger, row in found[:MOST]:
        _print(ledger, row)
    if len(found) > MOST:
        print(f"… and {len(found) - MOST} more; give more of the id")


def ledgers(folder: Path) -> list[Path]:
    """The ledgers under a folder, the newest first."""
    found = sorted(folder.rglob("ledger.parquet"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found:
        raise DataError(f"{folder}: holds no ledger.parquet; give in=FOLDER of a curation or of the pipeline's outputs")
    return found


def rows_with(ledger: Path, beginning: str) -> list[dict[str, Any]]:
    """The rows of one ledger whose id begins so; read in batches, so that a ledger of any size can be asked."""
    from pyarrow import compute, parquet

    rows: list[dict[str, Any]] = []
    for batch in parquet.ParquetFile(ledger).iter_batches():
        rows += batch.filter(compute.starts_with(batch["id"], beginning)).to_pylist()  # pyright: ignore
    return rows


def _print(ledger: Path, row: dict[str, Any]) -> None:
    verdict = "kept" if row["kept"] else f"dropped by {row['dropped_by']}"
    print(f"{row['id']}  {row['dataset']}/{row['split']}  {verdict}   ({ledger})")
    for reason in row["reasons"]:
        print(f"  - {reason}")
    for name, value in row.items():
        if name not in ("id", "dataset", "split", "kept", "dropped_by", "reasons") and value not in (None, []):
            print(f"  {name}: {value}")
