"""What a sweep optimises and may cost. Imports only pydantic."""

from typing import Any, Literal

from pydantic import Field

from data_prep.strict import StrictModel


class Objective(StrictModel):
    """A number of report.json, and which way is better."""

    metric: str = Field(pattern=r"^(evaluation|training)\.\S+$")
    """Path in report.json, such as `evaluation.models.sft.perplexity/sample.bits_per_byte`."""
    direction: Literal["minimize", "maximize"]
    """Whether less or more of it is better."""

    def value(self, report: Any) -> float:
        """The number in a report. KeyError names what there is instead."""
        found = report
        parts = self.metric.split(".")
        for place, part in enumerate(parts):
            if isinstance(found, list) and part.lstrip("-").isdigit() and -len(found) <= int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                there = list(found) if isinstance(found, dict) else type(found).__name__
                raise KeyError(f"optimise.metric: {'.'.join(parts[:place]) or 'the report'} has no '{part}': {there}")
        if isinstance(found, bool) or not isinstance(found, int | float):
            names = f"; there are {', '.join(found)}" if isinstance(found, dict) else ""
            raise KeyError(f"optimise.metric: {self.metric} is not a number{names}")
        return float(found)
