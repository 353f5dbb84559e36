"""The filter steps, in the fixed order in which they run. Imports only pydantic.

The defaults drop what is broken, repeated or in another language, and nothing that might be a good short answer:
the web heuristics of Gopher, C4 and FineWeb drop chat, code and mathematics, so none of them is a default here.
"""

from data_prep.curation.classifiers.config import Classifier
from data_prep.curation.consent.config import Consent
from data_prep.curation.decontamination.config import Decontamination
from data_prep.curation.empty.config import Empty
from data_prep.curation.exact_dedup.config import ExactDedup
from data_prep.curation.language.config import Language
from data_prep.curation.length.config import Length
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.normalise.config import Normalise
from data_prep.curation.pii.config import Pii
from data_prep.curation.quality.config import Quality
from data_prep.curation.repeated_parts.config import RepeatedParts
from data_prep.curation.toxicity.config import Toxicity
from data_prep.strict import StrictModel


class CurationSteps(StrictModel):
    """The steps in their order; null switches a step off, `{}` switches it on with its defaults."""

    normalise: Normalise | None = None
    """Unicode, line ends and control characters are brought to one form."""

    consent: Consent | None = None
    """Rows whose licence or opt-out field forbids their use."""

    empty: Empty | None = Empty()
    """Rows without content."""

    exact_dedup: ExactDedup | None = ExactDedup()
    """Repeated rows."""

    repeated_parts: RepeatedParts | None = None
    """Lines or paragraphs that many rows have are taken out of them."""

    near_dedup: NearDedup | None = None
    """Nearly repeated rows."""

    language: Language | None = Language()
    """Rows in other languages."""

    length: Length | None = Length()
    """Rows that are too short or too long."""

    quality: Quality | None = None
    """Text that the heuristics of Gopher, C4 and FineWeb speak against."""

    classifiers: dict[str, Classifier] = {}
    """Rows that a classifier scores outside its limits; any number of them, by name."""

    toxicity: Toxicity | None = None
    """Toxic rows."""

    decontamination: Decontamination | None = None
    """Training rows that hold items of an evaluation: of every data set of the run with `role: eval`."""

    pii: Pii | None = None
    """Personal data and secrets."""
