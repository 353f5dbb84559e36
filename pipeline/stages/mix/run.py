"""Mix data sets: a dataset folder whose training rows are drawn from several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.config import Mixture
from data_prep.mixture import mix
from data_prep.progress import Track


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """A dataset folder, see `data_prep.mixture`."""
    mixture = Mixture.model_validate({name: value for name, value in config.items() if name != "kind"})
    stats = mix(inputs, mixture, out, track)
    return {"rows": stats["rows"], **stats["splits"]}
