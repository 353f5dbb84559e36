"""The findings of all rules in a text."""

from collections.abc import Iterator, Sequence

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.lettered import find_lettered
from data_prep.curation.pii.mail import find_emails
from data_prep.curation.pii.network import find_ips, find_url_credentials
from data_prep.curation.pii.numbers import find_numbers
from data_prep.curation.pii.secrets import find_secrets
from data_prep.curation.pii.spans import Detector, Span, resolve


def find_pii(text: str, config: Pii) -> list[Span]:
    """The personal data and secrets of a text: spans that do not overlap, by start; time linear in its length."""
    return resolve(span for span in _find(text, config) if span.score >= _threshold(span, config))


def find_pii_batch(texts: Sequence[str], config: Pii, detectors: Sequence[Detector] = ()) -> list[list[Span]]:
    """The findings of each text, with those of further detectors merged in by the same rule."""
    found = [[span for span in _find(text, config) if span.score >= _threshold(span, config)] for text in texts]
    for detector in detectors:
        for spans, more in zip(found, detector.find(texts), strict=True):
            spans += more
    return [resolve(spans) for spans in found]


def _threshold(span: Span, config: Pii) -> float:
    return config.thresholds.get(span.kind, config.min_score)  # pyright: ignore[reportArgumentType, reportCallIssue]


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
