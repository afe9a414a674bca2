"""What the cloud's core tells its shell, and the bounds within which it works."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from gradfec_common.reassembly import Reassembly
from gradfec_common.wire import Result


@dataclass(frozen=True)
class CloudLimits:
    """Every time and bound of the cloud's core."""

    sessions: int = 256
    session_idle_s: float = 30.0  # a session that is silent for longer ends
    tensors_per_session: int = 8  # tensors that are being collected; one more makes the oldest be decided
    pending_tensors: int = 64  # tensors that are decided and wait for the back-end, over all sessions
    reassembly_bytes: int = 512 * 2**20  # symbols that are held, over all sessions
    reorder_s: float = 0.03  # how much later a tensor's datagrams may come than its last one or the next tensor's
    answer_repeat_s: float = 0.1  # results and reports are repeated, at doubling intervals, until acknowledged
    answer_repeat_max_s: float = 0.8
    answer_stale_s: float = 3.0
    answers_per_session: int = 64
    tensor_window: int = 256  # how far a tensor's number may lie from the newest one of its session


@dataclass(frozen=True)
class Decided:
    """A tensor is ready for decoding and inference; hand its answer to `answer`."""

    session: int
    tensor: int
    arrived: Reassembly
    complete: bool
    waited_s: float  # since its first datagram


@dataclass(frozen=True)
class Finished:
    """A tensor has been answered and its datagrams counted, once for each tensor that is answered."""

    edge: str
    session: int
    tensor: int
    packets: dict[str, int]
    result: Result
    latency_s: float  # from its first datagram to its answer


@dataclass(frozen=True)
class SessionOpened:
    """An edge has been welcomed."""

    session: int
    edge: str
    peer: Hashable


@dataclass(frozen=True)
class SessionEnded:
    """A session is over; `reason` is replaced, idle, or bye."""

    session: int
    edge: str
    reason: str


Event = Decided | Finished | SessionOpened | SessionEnded
