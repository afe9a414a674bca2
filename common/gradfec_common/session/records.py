"""What the cloud's core keeps of its edges and of their tensors."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from gradfec_common.packets import PacketGrid
from gradfec_common.reassembly import Reassembly
from gradfec_common.seal import Opener, Sealer
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.session.rates import Allowance
from gradfec_common.session.timers import NEVER
from gradfec_common.wire import MessageKind, Report, Result


@dataclass
class Tensor:
    """A tensor from its first datagram until it is both answered and closed."""

    arrived: Reassembly
    first_at: float
    closes_at: float  # when no more of its datagrams are expected
    decided: bool = False
    result: Result | None = None
    latency_s: float = 0.0
    report: Report | None = None
    timer: int = NEVER  # closes it


@dataclass
class Answer:
    """A result or report that is not acknowledged yet."""

    body: bytes
    timer: int = NEVER  # repeats it


@dataclass
class PartialSketch:
    """The parts of a session's newest sketch, by index, until there are enough."""

    tensor: int = -1
    n: int = 0
    k: int = 0
    length: int = 0  # of each part
    parts: dict[int, bytes] = field(default_factory=dict)
    done: bool = False


@dataclass
class Session:
    """What the cloud keeps of one edge."""

    id: int
    key: HandshakeKey
    hello: bytes  # the public key in the edge's hello
    edge: str
    grid: PacketGrid
    sealer: Sealer
    opener: Opener
    allowance: Allowance  # of datagrams
    peer: Hashable
    heard_at: float
    credit: int  # bytes that may be sent to `peer`
    confirmed: bool = False  # whether the edge has used the session: until then it may be a replayed hello's
    pending: int = 0  # tensors that are with the back-end
    tensors: dict[int, Tensor] = field(default_factory=dict)
    newest: int = -1
    strayed: int = -1  # the last tensor that was out of the window
    finished: set[int] = field(default_factory=set)  # within the window
    answers: dict[tuple[MessageKind, int], Answer] = field(default_factory=dict)
    sketch: PartialSketch = field(default_factory=PartialSketch)
