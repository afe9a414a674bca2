"""What the cloud's core tells its shell, and the bounds within which it works."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from gradfec_common.heads import Answer
from gradfec_common.reassembly import Reassembly
from gradfec_common.sketch import Sketch
from gradfec_common.wire import Result


@dataclass(frozen=True)
class CloudLimits:
    """Every time and bound of the cloud's core."""

    sessions: int = 256
    sessions_per_key: int = 128  # so that one edge cannot take all the places
    session_idle_s: float = 30.0  # a session that is silent for longer ends
    greeting_s: float = 5.0  # a hello is answered again, and its session kept unused, for so long
    greetings: int = 4096  # hellos that are remembered, not to be answered to anyone else
    hellos_per_s: float = 200.0  # authentic ones that are answered
    hellos_per_s_and_address: float = 20.0
    hello_burst_s: float = 2.0  # so many seconds' hellos may come at once
    addresses: int = 1024  # whose hellos are counted
    tensors_per_s: float = 5.0  # whose datagrams a session may send, besides twice those of each tensor answered
    tensors_per_session: int = 8  # tensors that are being collected; one more makes the oldest be decided
    pending_tensors: int = (
        64  # tensors that are decided and wait for the back-end; an equal share, at least 1, a session
    )
    reassembly_bytes: int = 512 * 2**20  # symbols that are held; an equal share a session
    reorder_s: float = 0.03  # how much later a tensor's datagrams may come than its last one or the next tensor's
    answer_repeat_s: float = 0.1  # results and reports are repeated, at doubling intervals, until acknowledged
    answer_repeat_max_s: float = 0.8
    answer_stale_s: float = 3.0
    answers_per_session: int = 64
    tensor_window: int = 256  # how far a tensor's number may lie from the newest one of its session
    sketch_bytes: int = 65_536  # of a sketch, of which a session has one at a time


@dataclass(frozen=True)
class Decided:
    """A tensor is ready for decoding and inference; hand its answer to `answer`."""

    session: int
    tensor: int
    arrived: Reassembly
    complete: bool
    waited_s: float  # since its first datagram


@dataclass(frozen=True)
class GivenUp:
    """The edge awaits no answer any more for a tensor that was decided; `fail` it where its turn has not come."""

    session: int
    tensor: int


@dataclass(frozen=True)
class Finished:
    """A tensor has been answered and its datagrams counted, once for each tensor that is answered."""

    edge: str
    session: int
    tensor: int
    packets: dict[str, int]
    result: Result
    answer: Answer
    latency_s: float  # from its first datagram to its answer
    bursts: int  # runs of consecutive datagrams that were lost


@dataclass(frozen=True)
class Sketched:
    """An edge has told what it does with one of its tensors, which may or may not have come, and need not be true."""

    session: int
    edge: str
    tensor: int
    sketch: Sketch


@dataclass(frozen=True)
class SessionOpened:
    """An edge has come in."""

    session: int
    edge: str
    peer: Hashable


@dataclass(frozen=True)
class SessionEnded:
    """A session is over; `reason` is idle, bye, leaving, or key removed."""

    session: int
    edge: str
    reason: str


@dataclass(frozen=True)
class SessionMoved:
    """An edge has another address than before."""

    session: int
    edge: str
    peer: Hashable


Event = Decided | GivenUp | Finished | Sketched | SessionOpened | SessionMoved | SessionEnded
