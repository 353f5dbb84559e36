"""How numbers, sizes, times and dates are written in every output."""

import math
from datetime import UTC, datetime
from typing import Any

MISSING = "–"
_HUGE = 1e6
_NOT_FINITE = "not a finite number"
# not strftime's %B, which follows the locale: the same report has the same bytes everywhere
_MONTHS = ("January", "February", "March", "April", "May", "June", "July")
_MONTHS += ("August", "September", "October", "November", "December")


def _is_shown(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _minus(text: str) -> str:
    return text.replace("-", "−")


def number(value: Any, digits: int = 4) -> str:
    """A number with `digits` significant digits (integers in full), a real minus sign, no exponent for usual sizes."""
    if not _is_shown(value):
        return MISSING
    if not math.isfinite(value):
        return _NOT_FINITE
    if isinstance(value, int) or (value == int(value) and 1000 <= abs(value) < 1e15):
        return _minus(f"{int(value):,}")
    if value and not 1e-4 <= abs(value) < 1e15:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return _minus(f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}")
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(digits - 1 - magnitude, 0)}f}"
    return _minus(text.rstrip("0").rstrip(".") if "." in text else text)


def decimals_for(low: float | None, high: float | None) -> int:
    """Decimals that show two significant digits of an interval's width: more would be noise."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return 3
    return min(max(1 - math.floor(math.log10(high - low)), 0), 6)


def fixed(value: Any, decimals: int) -> str:
    """A number with exactly `decimals` decimals; from a million on three digits and a power of ten."""
    if not _is_shown(value):
        return MISSING
    if not math.isfinite(value):
        return _NOT_FINITE
    if abs(value) >= _HUGE:  # a word perplexity of a raw model can be 2e9: its ten digits say nothing
        mantissa, exponent = f"{value:.2e}".split("e")
        return _minus(f"{mantissa}e{int(exponent)}")
    text = f"{value:,.{decimals}f}"
    return _minus(text[1:] if text.startswith("-") and not text.strip("-0.,") else text)


def signed(value: Any, decimals: int) -> str:
    """As `fixed`, with a plus or minus sign unless it rounds to zero."""
    text = fixed(value, decimals)
    is_positive = _is_shown(value) and math.isfinite(value) and value > 0 and bool(text.strip("0.,"))
    return f"+{text}" if is_positive else text


def percent(share: Any, digits: int = 3) -> str:
    """A share of 1 as a percentage."""
    return MISSING if not _is_shown(share) else f"{number(share * 100, digits)} %"


def p_value(p: Any) -> str:
    """A p value; below 0.001 only the bound."""
    if not _is_shown(p) or not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(value: Any) -> str:
    """A large count, short: 134.5 M."""
    if not _is_shown(value) or not math.isfinite(value):
        return MISSING
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{number(value / size, 4)} {unit}"
    return number(int(value))


def size(value: Any) -> str:
    """Bytes in binary units."""
    if not _is_shown(value) or not math.isfinite(value):
        return MISSING
    for unit, bytes_ in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= bytes_:
            return f"{number(value / bytes_, 3)} {unit}"
    return f"{number(int(value))} B"


def duration(seconds: Any) -> str:
    """Seconds in the two largest units."""
    if not _is_shown(seconds) or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{number(float(seconds), 2)} s" if seconds < 10 else f"{round(seconds)} s"
    total = round(seconds)
    days, hours, minutes = total // 86400, total // 3600 % 24, total // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {total % 60} s"


def date(text: str | None) -> str:
    """An ISO time in UTC, `21 November 2026, 03:15 UTC`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return text or MISSING
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    month = _MONTHS[utc.month - 1]
    return f"{utc.day} {month} {utc.year}, {utc:%H:%M}{' UTC' if moment.tzinfo else ''}"


def value(item: Any) -> str:
    """Any JSON scalar for a table cell."""
    if item is None:
        return MISSING
    if isinstance(item, bool):
        return "yes" if item else "no"
    return number(item) if isinstance(item, int | float) else str(item)
