"""What personal data is looked for and what is done about it. Imports only pydantic."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, field_validator

from data_prep.curation.pii.kinds import RULE_KINDS, Kind, LooseKind
from data_prep.strict import StrictModel, threshold

Backend = Literal["presidio", "rampart"]
NationalId = Literal[
    "us_ssn",
    "gb_nino",
    "gb_nhs",
    "de_idnr",
    "fr_nir",
    "es_dni",
    "es_nie",
    "it_codicefiscale",
    "nl_bsn",
    "pl_pesel",
    "br_cpf",
    "ca_sin",
    "in_aadhaar",
    "au_tfn",
]


class Pii(StrictModel):
    """Find personal data and secrets: by rules, which test a checksum where a kind has one, and by models if asked."""

    action: Literal["drop", "mask", "pseudonym"] = threshold("pseudonym")
    """`drop` the row, `mask` with `[EMAIL]`-like placeholders, or replace by a `pseudonym` of the same form (needs the
    environment variable PROVETUNE_PSEUDONYM_KEY)."""

    kinds: list[Kind] = Field(default=list(RULE_KINDS), min_length=1)
    """The kinds that rules look for. Off unless listed, because rules alone miss many and take some others for them:
    `name` (after Mr. or Dr.), `address`, `organization` (with Ltd or Inc.), `birth_date`, `url`."""

    ner: Backend | list[Backend] | None = None
    """Models that find names and places (`pip install "provetune[pii]"`; English): `presidio` (spaCy's small model),
    `rampart` (a small ONNX classifier), or both, which find more than either. Slow: about 0.02 MB/s each."""

    ner_kinds: list[LooseKind] = Field(default=["name", "place", "address"], min_length=1)
    """The kinds that models look for. Also possible: `organization`, `group`, `number`, `url`."""

    ner_on: Literal["candidates", "all"] = "candidates"
    """What models read: lines and sentences with a capital or a digit that may belong to somebody, or everything."""

    phone_regions: list[str] = Field(default=["US", "GB", "CA", "AU", "DE", "FR", "ES", "IT", "NL", "IN", "BR"])
    """Countries (ISO 3166) whose phone numbers are recognised without +, in the order in which they are tried."""

    national_ids: list[NationalId] = Field(default=list(get_args(NationalId)))
    """The national numbers that are looked for when `national_id` is among the kinds."""

    min_score: float = threshold(0.5, ge=0, le=1)
    """Findings below this score are ignored."""

    thresholds: dict[Kind, float] = threshold({})
    """Another smallest score for single kinds, e.g. `{card: 0.8, name: 0.6}`."""

    context_characters: int = Field(default=40, ge=0, le=200)
    """How far before a number a whole word such as `phone` or `ssn` supports it."""

    keep_fictional: bool = True
    """Leave what was never personal: example.org mail, loopback and documentation addresses, 555-0100 numbers."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The models, each once and in one order."""
        listed = [self.ner] if isinstance(self.ner, str) else self.ner or []
        return tuple(backend for backend in get_args(Backend) if backend in listed)

    def least_score(self, kind: str) -> float:
        """The smallest score at which a finding of a kind counts."""
        limits: Mapping[str, float] = {**self.thresholds}
        return limits.get(kind, self.min_score)

    @field_validator("phone_regions")
    @classmethod
    def regions_are_codes(cls, regions: list[str]) -> list[str]:
        """`uk` or `Germany` would silently find nothing."""
        for region in regions:
            if not (len(region) == 2 and region.isascii() and region.isalpha() and region.isupper()):
                raise ValueError(f"{region!r} is not a country code; use upper-case ISO 3166 codes such as US, GB, DE")
        return regions

    @field_validator("ner")
    @classmethod
    def ner_names_a_model(cls, ner: Backend | list[Backend] | None) -> Backend | list[Backend] | None:
        """An empty list would silently find no names."""
        if ner == []:
            raise ValueError("names no model; use presidio, rampart, [presidio, rampart], or null for none")
        return ner

    @field_validator("thresholds")
    @classmethod
    def thresholds_are_scores(cls, thresholds: dict[Kind, float]) -> dict[Kind, float]:
        """A score is between 0 and 1."""
        for kind, score in thresholds.items():
            if not 0 <= score <= 1:
                raise ValueError(f"{kind}: {score} is no score; use a number from 0 to 1")
        return thresholds
