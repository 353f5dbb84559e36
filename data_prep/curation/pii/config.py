"""What personal data is looked for and what is done about it. Imports only pydantic."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from data_prep.strict import StrictModel

Kind = Literal["email", "phone", "ip", "iban", "card", "national_id", "url_credentials", "secret"]
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
    """Find personal data and secrets by rules; a checksum, where the kind has one, is tested before anything counts."""

    action: Literal["drop", "mask", "pseudonym"] = "pseudonym"
    """`drop` the row, `mask` with `[EMAIL]`-like placeholders, or replace by a `pseudonym` of the same form (needs the
    environment variable PROVETUNE_PSEUDONYM_KEY)."""

    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)
    """The kinds that are looked for."""

    phone_regions: list[str] = Field(default=["US", "GB", "CA", "AU", "DE", "FR", "ES", "IT", "NL", "IN", "BR"])
    """Countries (ISO 3166) whose phone numbers are recognised without +, in the order in which they are tried."""

    national_ids: list[NationalId] = Field(default=list(get_args(NationalId)))
    """The national numbers that are looked for when `national_id` is among the kinds."""

    min_score: float = Field(default=0.5, ge=0, le=1)
    """Findings below this score are ignored."""

    thresholds: dict[Kind, float] = Field(default={})
    """Another smallest score for single kinds, e.g. `{card: 0.8}`."""

    context_characters: int = Field(default=40, ge=0, le=200)
    """How far before a number a whole word such as `phone` or `ssn` supports it."""

    keep_fictional: bool = True
    """Leave what was never personal: example.org mail, loopback and documentation addresses, 555-0100 numbers."""

    @field_validator("phone_regions")
    @classmethod
    def regions_are_codes(cls, regions: list[str]) -> list[str]:
        """`uk` or `Germany` would silently find nothing."""
        for region in regions:
            if not (len(region) == 2 and region.isascii() and region.isalpha() and region.isupper()):
                raise ValueError(f"{region!r} is not a country code; use upper-case ISO 3166 codes such as US, GB, DE")
        return regions
