"""Pseudonyms without an exact form: of names, places, addresses, companies, dates of birth and web addresses.

Each word has its own pseudonym, whatever stands around it: so `Maria` stays the same person as `Maria Gonzalez` and
`Dr. Gonzalez`. The words are invented, fit first and last names alike, and say nothing about a gender.
"""

import re
from collections.abc import Callable

from data_prep.curation.pii.fakes import ENDINGS, RESERVED, STEMS
from data_prep.curation.pii.key import Stream
from data_prep.curation.pii.vocabulary import words

Streams = Callable[..., Stream]
"""Makes the stream of a label."""

_NAMES = words(
    "addison alden arden ariel ash ashby aubrey avery bailey blair blake bowen brett briar brook cameron"
    " campbell carey carson casey chandler charlie clay cody colby corey dale dallas dana darcy delaney devin"
    " drew dylan eden ellery ellis elliot ember emerson emery finley flynn frankie gale glenn gray greer hadley"
    " harley harlow harper haven hayden holland hollis hunter indigo jamie jay jesse jody jordan jules keegan"
    " kelly kelsey kendall kerry kim kit lane lee leigh lennon leslie linden logan london lynn mackenzie madison"
    " marley marlow mason merritt micah morgan murphy nevada nicky noel oakley paris parker pat peyton phoenix"
    " presley quincy quinn ray reagan reed reese remy rhodes riley river robin romy rory rowan sage sawyer scout"
    " shay shelby shiloh sidney skyler sloan spencer sterling stevie sutton tatum taylor teagan temple terry"
    " toby tracy tyler vale wesley winter wren wynn"
)
_PLACES = words(
    "borough bridge brook burgh bury by combe cross dale field ford gate ham hampton haven hill holm hurst"
    " ington land leigh mere minster mond mont moor mouth pool port sted stead stoke ton vale ville water wick"
    " wood worth"
)
_GROUPS = words(
    "argentine australian austrian belgian brazilian bulgarian canadian chilean colombian cuban egyptian"
    " estonian ethiopian german ghanaian haitian hungarian indian indonesian iranian italian jamaican kenyan"
    " korean latvian libyan malaysian mexican moroccan nigerian norwegian peruvian romanian russian serbian"
    " syrian tunisian ukrainian"
)
_TITLES = words("mr mrs ms miss mx dr prof sir dame jr sr ii iii iv md phd esq")
_PARTICLES = words(
    "of the and & de da do dos das di del della der den van von zu zur la le les el los al bin ibn ter ten y e"
)
_STREETS = words(
    "street st avenue ave road rd boulevard blvd lane ln drive dr court ct place pl square sq terrace crescent"
    " highway hwy parkway pkwy way close gardens grove heights row mews north south east west n s w via viale"
    " vicolo piazza rua calle avenida rue ul str strasse straße apt apartment suite ste unit flat room floor box"
    " po p o psc apo fpo dpo aa ae ap no"
)
_FORMS = words(
    "inc incorporated corp corporation co company ltd limited llc llp plc gmbh ag se kg sa sas spa nv bv ab asa"
    " as oyj oy holdings holding group bank bancorp trust fund etf university college institute school hospital"
    " club pty"
)
_KEPT = {
    "name": frozenset((*_TITLES, *_PARTICLES)),
    "place": frozenset(_PARTICLES),
    "address": frozenset((*_STREETS, *_PARTICLES)),
    "organization": frozenset((*_FORMS, *_PARTICLES)),
}
_MONTHS = words("january february march april may june july august september october november december")
_WORD = re.compile(r"[^\W_]+")
_DATE_PART = re.compile(r"[0-9]+|[^\W\d_]+")
_POSSESSIVES = ("'s", "’s")


def invented(streams: Streams, kind: str, value: str) -> str:
    """The pseudonym of a value of one of the loose kinds, with as many words, initials and signs."""
    if kind == "birth_date":
        return _date(streams("birth_date", value.casefold()), value)
    if kind == "url":
        return _url(streams, value)
    if kind == "number":
        stream = streams("number", "".join(filter(str.isalnum, value)).casefold())
        return stream.like(value)
    end = value[-2:] if value.endswith(_POSSESSIVES) else ""
    return _WORD.sub(lambda hit: _word(streams, kind, hit[0]), value[: len(value) - len(end)]) + end


def _word(streams: Streams, kind: str, word: str) -> str:
    folded = word.casefold()
    if folded in _KEPT.get(kind, ()):
        return word
    drawn, attempt = word, 0
    # A few draws suffice: the lists are long, and a digit repeats itself every tenth time.
    while drawn.casefold() == folded and attempt < 20:
        stream = streams(kind, folded, str(attempt))
        drawn = _cased(_draw(stream, kind, folded), word) if len(word) > 1 and word.isalpha() else stream.like(word)
        attempt += 1
    return drawn


def _draw(stream: Stream, kind: str, folded: str) -> str:
    if kind == "group":
        return stream.one_of(_GROUPS) + ("s" if folded.endswith("ns") else "")
    if kind in ("place", "address"):
        return stream.one_of(STEMS) + stream.one_of(_PLACES)
    if stream.below(2):
        return stream.one_of(_NAMES)
    return stream.one_of(STEMS) + stream.one_of(ENDINGS)


def _cased(new: str, old: str) -> str:
    if old.isupper():
        return new.upper()
    return new if old.islower() else new.capitalize()


def _date(stream: Stream, value: str) -> str:
    def part(hit: re.Match[str]) -> str:
        old = hit[0]
        if len(old) == 4 and old.isdigit():
            return str(1940 + stream.below(66))
        if old.isdigit():
            # 4 to 12 is a day and a month, and the th of 4th fits.
            return f"{4 + stream.below(9):0{len(old)}}" if len(old) > 1 else str(4 + stream.below(6))
        if old.casefold() in ("st", "nd", "rd", "th"):
            return "th"
        if any(month.startswith(old.casefold()) for month in _MONTHS if len(old) > 2):
            month = stream.one_of(_MONTHS)
            return _cased(month if len(old) > 4 else month[:3], old)
        return old

    return _DATE_PART.sub(part, value)


def _url(streams: Streams, value: str) -> str:
    scheme, separator, rest = value.rpartition("://") if "://" in value else ("", "", value)
    host, slash, path = rest.partition("/")
    stream = streams("url", host.casefold().removeprefix("www."))
    www = "www." if host.casefold().startswith("www.") else ""
    name = f"{stream.one_of(STEMS)}{stream.one_of(ENDINGS)}.{stream.one_of(RESERVED)}"
    return f"{scheme}{separator}{www}{name}{slash}{streams('path', path).like(path)}"
