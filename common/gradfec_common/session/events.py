"""What the cloud's core tells its shell, and the bounds within which it works."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from gradfec_common.heads import Answer
from gradfec_common.networks import Cut
from gradfec_common.reassembly import Reassembly
from gradfec_common.sketch import Sketch
from gradfec_common.wire import Result


@dataclass(frozen=True)
class CloudLimits:
    """Every time and bound of the cloud's core."""

    sessions: int = 256
    sessions_per_key: int = 128  # so that one edge cannot take them all
    session_idle_s: float = 30.0  # a session that is silent for longer ends
    greeting_s: float = 5.0  # for which a repeated hello gets its welcome again, and its unused session is kept
    greetings: int = 4096  # hellos that are remembered, so that they are not answered to anyone else
    hellos_per_s: float = 200.0  # authentic hellos that are answered
    hellos_per_s_and_address: float = 20.0
    hello_burst_s: float = 2.0  # how many seconds' worth of hellos may come at once
    addresses: int = 1024  # whose hellos are counted
    tensors_per_s: float = 5.0  # whose datagrams a session may send, in addition to twice those of each answered tensor
    tensors_per_session: int = 8  # tensors that are being collected; one more makes the oldest be decided
    pending_tensors: int = 64  # with the back-end; an equal share for each session, at least 1
    reassembly_bytes: int = 512 * 2**20  # of symbols that are held; an equal share for each session
    reorder_s: float = 0.03  # for which a tensor's datagrams may come after its last one, or after the next tensor's
    unheard_tensors: int = 3  # of a session, of which nothing has arrived and that will be asked for
    request_rounds: int = 3  # for more datagrams of one tensor
    answer_repeat_s: float = 0.1  # results and reports are repeated, at doubling intervals, until acknowledged
    answer_repeat_max_s: float = 0.8
    answer_stale_s: float = 3.0
    answers_per_session: int = 64
    tensor_window: int = 256  # how far a tensor's number may lie from the newest one of its session
    sketch_bytes: int = 65_536  # of the newest sketch of a session


@dataclass(frozen=True)
class Decided:
    """A tensor is ready for decoding and inference; hand its answer to `answer`."""

    session: int
    tensor: int
    arrived: Reassembly
    complete: bool
    waited_s: float  # since its first datagram
    cut: Cut
    key: bytes = b""  # the id of its edge's key: edges with the same key share turns


@dataclass(frozen=True)
class GivenUp:
    """The edge no longer waits for a tensor that was decided; hand it to `fail` if the back-end has not begun it."""

    session: int
    tensor: int


@dataclass(frozen=True)
class Finished:
    """A tensor is answered and its losses are counted: once for each tensor that is answered."""

    edge: str
    session: int
    tensor: int
    packets: dict[str, int]
    datagrams: dict[str, int]
    result: Result
    answer: Answer
    latency_s: float  # from its first datagram to its answer
    bursts: int  # runs of consecutive datagrams that were lost
    received_bytes: int  # of UDP payload, in the datagrams that were received
    answered_at: float  # by the core's clock
    first_tensor: int | None = None  # the number of its frame's first tensor, if this is the second


@dataclass(frozen=True)
class Sketched:
    """An edge's sketch of one of its tensors. The tensor may not have arrived, and the sketch may be false."""

    session: int
    edge: str
    tensor: int
    sketch: Sketch


@dataclass(frozen=True)
class SessionOpened:
    """An edge has used its new session."""

    session: int
    edge: str
    peer: Hashable


@dataclass(frozen=True)
class SessionEnded:
    """A session is over; `reason` is `idle`, `bye`, `leaving` or `key removed`."""

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
