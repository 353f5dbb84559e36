"""Where shards are worked on. Imports only pydantic."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from data_prep.strict import StrictModel

Workers = Annotated[int, Field(ge=1)] | Literal["auto"]


class LocalEngine(StrictModel):
    """Processes of this machine."""

    kind: Literal["local"] = "local"
    """Which engine this is."""

    workers: Workers = "auto"
    """How many shards are worked on at a time, each by a process of one thread; 1 needs no process. `auto`: the
    processors that this process may use, but no more than there are GB of free memory."""


class RayEngine(StrictModel):
    """A Ray cluster (`pip install "provetune[ray]"`). Its nodes share the outputs folder and have the same versions."""

    kind: Literal["ray"] = "ray"
    """Which engine this is."""

    address: str | None = None
    """`host:port` of a cluster that this machine is a node of, or `auto`: the one that was started here. null: the one
    that the variable RAY_ADDRESS names; without it, one is started on this machine and stopped afterwards."""

    workers: Workers = "auto"
    """How many shards are worked on at a time, each on one processor. `auto`: the processors of the cluster."""

    @field_validator("address")
    @classmethod
    def address_is_of_a_cluster(cls, address: str | None) -> str | None:
        """A Ray Client or dashboard address would hang or fail late."""
        if address is None or address == "auto" or re.fullmatch(r"[\w.-]+:\d{1,5}", address):
            return address
        raise ValueError(f"{address!r} is no address; use host:port, or auto, on a machine of the cluster")


def _by_name(engine: Any) -> Any:
    """`engine=ray` is short for `engine.kind=ray`, and settings without a kind are those of local processes."""
    if isinstance(engine, str):
        return {"kind": engine}
    return {"kind": "local", **engine} if isinstance(engine, dict) else engine


Engine = Annotated[LocalEngine | RayEngine, Field(discriminator="kind"), BeforeValidator(_by_name)]
"""Any of the engines, told apart by `kind`; its name alone stands for its defaults."""
