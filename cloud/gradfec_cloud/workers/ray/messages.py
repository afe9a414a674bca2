"""What a gateway and its bridge to Ray say to each other. Workers are numbers that are never used again."""

from __future__ import annotations

from dataclasses import dataclass

from gradfec_cloud.workers.pool import BackEndName
from gradfec_cloud.workers.ray.parcel import Parcel


@dataclass(frozen=True)
class Setup:
    """Which cluster, what a worker needs of a machine, and what to send it."""

    address: str
    cpus: float
    gpus: float
    parcel: Parcel


@dataclass(frozen=True)
class Order:
    """Start, stop or kill a worker."""

    what: str
    worker: int


@dataclass(frozen=True)
class Work:
    """Give a worker a batch."""

    worker: int
    lease: int
    back_end: BackEndName
    tensors: bytes


@dataclass(frozen=True)
class Connected:
    """There is a cluster."""

    address: str
    machines: int


@dataclass(frozen=True)
class Ready:
    """A worker can work."""

    worker: int
    where: str


@dataclass(frozen=True)
class Died:
    """A worker has died; Ray restarts it if `again`."""

    worker: int
    why: str
    again: bool


@dataclass(frozen=True)
class Returned:
    """A worker gives a batch back."""

    worker: int
    lease: int
    outputs: bytes
