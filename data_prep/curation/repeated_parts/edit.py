"""Boilerplate is taken out of a row."""

from pathlib import Path

from data_prep.curation.repeated_parts.boilerplate import load_boilerplate
from data_prep.curation.repeated_parts.config import RepeatedParts
from data_prep.curation.repeated_parts.parts import Part, is_looked_at, parts_in, row_number, with_texts
from data_prep.rows import Row


class PartRemover:
    """An edit: takes the boilerplate out of a row and leaves all other text as it is, byte for byte."""

    def __init__(self, config: RepeatedParts, boilerplate: Path) -> None:
        """`boilerplate`: the file that `Boilerplate.save` wrote."""
        self.config = config
        self.keepers = load_boilerplate(boilerplate).keepers

    def edit(self, row: Row) -> tuple[Row, dict[str, int]]:
        """The row without its boilerplate, and `{"parts": removed, "characters": removed}`; {} where it has none.

        A part goes with the separator after it, and the last that stays gives up its own, unless the text ended with
        one. A text of which only white space is left becomes "".
        """
        if not self.keepers or not is_looked_at(row, self.config):
            return row, {}
        removal = _Removal(self.config, self.keepers, row_number(row))
        changed = with_texts(row, removal.clean)
        return (changed, removal.counts) if removal.counts else (row, {})


class _Removal:
    """The removal from one row: counts over its texts, and remembers which parts it has kept as their keeper."""

    def __init__(self, config: RepeatedParts, keepers: dict[int, int], row: int) -> None:
        self.config, self.keepers, self.row = config, keepers, row
        self.counts = dict[str, int]()
        self.kept_here = set[int]()

    def clean(self, text: str) -> str:
        left, removed = list[Part](), 0
        for part in parts_in(text, self.config):
            if self._stays(part.number):
                left.append(part)
            else:
                removed += 1
        if not removed:
            return text
        cleaned = "".join(text[part.start : part.after] for part in left[:-1])
        cleaned += text[left[-1].start : left[-1].stop] if left else ""
        cleaned = cleaned if cleaned.strip() else ""
        self.counts["parts"] = self.counts.get("parts", 0) + removed
        self.counts["characters"] = self.counts.get("characters", 0) + len(text) - len(cleaned)
        return cleaned

    def _stays(self, number: int) -> bool:
        keeper = self.keepers.get(number)
        if keeper is None:
            return True
        if keeper != self.row or number in self.kept_here:
            return False
        self.kept_here.add(number)
        return True
