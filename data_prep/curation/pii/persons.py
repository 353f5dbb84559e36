"""Names after a title, companies with their legal form, and dates of birth: found from a word that gives them away."""

import re
from collections.abc import Iterator

from data_prep.curation.pii.spans import Span
from data_prep.curation.pii.vocabulary import words

_CAPITAL = r"[^\W\d_a-zà-öø-ÿ][\w'’-]{0,40}"
_PARTICLE = "(?:de|da|do|dos|du|di|del|della|van|von|zu|der|den|bin|ibn|al|el|la|le|y|e) "
_TITLED = re.compile(
    rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof)\b\.? (?!Mr|Mrs|Ms|Dr)"
    rf"(?:(?!Apt\b|Suite\b){_CAPITAL} (?:{_PARTICLE}){{0,2}}|[A-Z]\. ){{0,3}}"
    rf"(?!Apt\b|Suite\b){_CAPITAL}"
)
# Each begins with a capital, so that the search skips all other characters at once.
_FORM = re.compile(
    r"(?:Inc|Incorporated|Corp|Corporation|Co|Company|Ltd|Limited|LLC|LLP|PLC|Plc|GmbH|AG|SE|KG|SA|SAS|SpA|NV|BV|AB|ASA|AS"
    r"|Oyj|Oy|Holdings|Holding|Bancorp|Trust|Fund|ETF|Pty)\b\.?"
)
_LEADING = frozenset(
    words("the at of for by with from in on to and is was i we he she they it a an my our your this during since after")
)
_BIRTH = re.compile(r"\b(?:born|birth|birthday|birthdate|dob|d\.o\.b)\b", re.IGNORECASE)
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_DAY, _YEAR, _TH = "[0-3]?[0-9]", "(?:19|20)[0-9]{2}", "(?:st|nd|rd|th)?"
_DATES = (
    rf"{_DAY}([-/.]){_DAY}\1(?:19|20)?[0-9]{{2}}",
    rf"{_YEAR}([-/.])[0-1]?[0-9]\2{_DAY}",
    rf"{_DAY}{_TH} (?:of )?{_MONTH}\.?,? {_YEAR}",
    rf"{_MONTH}\.? {_DAY}{_TH},? {_YEAR}",
)
_DATE = re.compile(rf"(?<![\w./-])(?:{'|'.join(_DATES)})(?![\w/-])", re.IGNORECASE)
_LONGEST_COMPANY = 80


def find_titled_names(text: str) -> Iterator[Span]:
    """Names with the title before them: `Mrs. Ana de Souza`."""
    if not any(title in text for title in ("Mr", "Ms", "Miss", "Mx", "Dr", "Prof")):
        return
    for hit in _TITLED.finditer(text):
        end = hit.end() - 2 if hit[0].endswith(("'s", "’s")) else hit.end()
        yield Span(hit.start(), end, "name", 0.8, "title")


def find_organizations(text: str) -> Iterator[Span]:
    """Companies with their legal form: the capitalised words before `Ltd`, `Inc.` or `GmbH`, on the same line."""
    done = 0
    for hit in _FORM.finditer(text):
        if text[hit.start() - 1 : hit.start()] not in (" ", ","):
            continue
        start = _company_start(text, max(done, hit.start() - _LONGEST_COMPANY), hit.start() - 1)
        if start < hit.start() - 1:
            end = hit.end()
            if text[end - 1] == "." and (end - hit.start() > 5 or text[end : end + 1] in ("", "\n")):
                end -= 1
            done = end
            yield Span(start, end, "organization", 0.7, "legal_form")


def find_birth_dates(text: str, reach: int) -> Iterator[Span]:
    """Dates shortly after a word such as `born` or `DOB`."""
    if not any(word in text for word in ("orn", "ORN", "irth", "IRTH", "dob", "DOB", "d.o.b", "D.O.B")):
        return
    done = 0
    for hit in _BIRTH.finditer(text):
        date = _DATE.search(text, max(done, hit.end()), hit.end() + reach + 20)
        if date and date.start() - hit.end() <= reach:
            done = date.end()
            yield Span(*date.span(), "birth_date", 0.85)


def _company_start(text: str, least: int, end: int) -> int:
    """The start of the capitalised words that end at a place; a comma or a small word other than & ends them."""
    for border in ("\n", "\\n"):
        at = text.rfind(border, least, end)
        least = at + len(border) if at >= 0 else least
    start = stop = end
    while stop > least:
        begin = max(text.rfind(" ", least, stop) + 1, least)
        word = text[begin:stop].lstrip("(\"'“‘")
        opens = word[:1].isupper() or word[:1].isdigit()
        if not (opens or word == "&") or word.casefold() in _LEADING or (start < end and _ends_before(word)):
            break
        if opens:
            start = stop - len(word)
        if len(word) < stop - begin:
            break
        stop = begin - 1
    return start


def _ends_before(word: str) -> bool:
    """Whether a company's name cannot go on after this word."""
    return word[-1] in ",:;?!)" or word.endswith(("'s", "’s")) or (word[-1] == "." and len(word) > 5)
