"""The findings of all rules in a text."""

from collections.abc import Iterable, Iterator, Sequence

from data_prep.curation.pii.addresses import find_addresses
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.kinds import LOOSE
from data_prep.curation.pii.lettered import find_lettered
from data_prep.curation.pii.mail import find_emails
from data_prep.curation.pii.network import find_ips, find_url_credentials, find_urls
from data_prep.curation.pii.numbers import find_numbers
from data_prep.curation.pii.persons import find_birth_dates, find_organizations, find_titled_names
from data_prep.curation.pii.secrets import find_secrets
from data_prep.curation.pii.spans import Detector, Span, joins, resolve


def find_pii(text: str, config: Pii) -> list[Span]:
    """The personal data and secrets of a text: spans that do not overlap, by start; time linear in its length."""
    return find_pii_batch([text], config)[0]


def find_pii_batch(texts: Sequence[str], config: Pii, detectors: Sequence[Detector] = ()) -> list[list[Span]]:
    """The findings of each text, with those of further detectors merged in by the same rule."""
    return [chosen(spans, config) for spans in find_raw(texts, config, detectors)]


def find_raw(texts: Sequence[str], config: Pii, detectors: Sequence[Detector] = ()) -> list[list[Span]]:
    """What each text may hold, of any score and with overlaps: all that `chosen` needs under any threshold."""
    found = [list(_find(text, config)) for text in texts]
    for detector in detectors:
        for spans, more in zip(found, detector.find(texts), strict=True):
            spans += more
    if detectors or not LOOSE.isdisjoint(config.kinds):
        for spans, text in zip(found, texts, strict=True):
            spans += joins(spans, text)
    return found


def chosen(spans: Iterable[Span], config: Pii) -> list[Span]:
    """The findings that count: those with enough score, without overlaps, by start. Needs no text."""
    return resolve(span for span in spans if span.score >= config.least_score(span.kind))


def _find(text: str, config: Pii) -> Iterator[Span]:
    kinds = config.kinds
    if "email" in kinds:
        yield from find_emails(text, config.keep_fictional)
    if "url_credentials" in kinds:
        yield from find_url_credentials(text)
    if "secret" in kinds:
        yield from find_secrets(text)
    if "ip" in kinds:
        yield from find_ips(text, config.keep_fictional)
    if "card" in kinds or "phone" in kinds or "national_id" in kinds:
        yield from find_numbers(text, config)
    if "iban" in kinds or "national_id" in kinds:
        yield from find_lettered(text, config)
    yield from _find_loose(text, config)


def _find_loose(text: str, config: Pii) -> Iterator[Span]:
    if "name" in config.kinds:
        yield from find_titled_names(text)
    if "address" in config.kinds:
        yield from find_addresses(text)
    if "organization" in config.kinds:
        yield from find_organizations(text)
    if "birth_date" in config.kinds:
        yield from find_birth_dates(text, config.context_characters)
    if "url" in config.kinds:
        yield from find_urls(text)
