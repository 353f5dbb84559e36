"""Several machines, and what they cost: the part of `launch` about nodes. Imports only pydantic."""

from pydantic import Field

from data_prep.strict import StrictModel


class NodesConfig(StrictModel):
    """The machines of one run. One pipeline process runs on each, all with the same configuration."""

    nodes: int = Field(default=1, ge=1)
    """Machines that train together; `processes` counts the ranks of all of them."""
    node_rank: int | None = Field(default=None, ge=0)
    """Which of them this one is, from 0; without it, `SLURM_NODEID`."""
    node_address: str | None = None
    """Name or address of node 0 for the others; without it, what node 0 calls itself."""
    node_wait: float = Field(default=600.0, gt=0)
    """Seconds to wait until every node has come."""
    node_timeout: float = Field(default=60.0, gt=1)
    """Seconds without a sign of life after which a node counts as dead and the others stop."""
    replicas: int = Field(default=1, ge=1)
    """With `fsdp2`: so many whole models, each in shards over `processes / replicas` ranks (HSDP). One per node keeps
    the traffic of the shards inside the nodes."""
    hang_timeout: float = Field(default=1800.0, gt=1)
    """Seconds without a sign of life of a rank, or without progress of any rank, after which a training is stopped."""
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Price of an hour of one GPU, or of one training process where there is none; for estimates."""
