"""The wire format, version 2: the only module that knows where a byte stands. docs/PROTOCOL.md specifies it.

Every datagram begins with magic, version, kind, flags, session. Hellos and welcomes, with which a session begins, are
`session.handshake`'s. All others go on with a counter and a sealed body, which `seal` opens: a symbol's header and the
coded symbol, or a control message, its kind and a msgpack map. Integers are big-endian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum, IntEnum
from typing import Any, ClassVar, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

MAGIC = 0x47  # "G"
VERSION = 2
MAX_DATAGRAM_BYTES = 1200  # of UDP payload: below any path's MTU, so that IP never fragments

Bytes = npt.NDArray[np.uint8]


class Kind(IntEnum):
    """What a datagram is, as all may see."""

    SYMBOL = 1  # sealed
    MESSAGE = 2  # sealed
    HELLO = 16
    WELCOME = 17


OUTER_HEADER = np.dtype(
    [
        ("magic", "u1"),
        ("version", "u1"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("session", ">u4"),
        ("counter", ">u8"),
    ]
)
OUTER_HEADER_BYTES = OUTER_HEADER.itemsize
TAG_BYTES = 16
SEAL_BYTES = OUTER_HEADER_BYTES + TAG_BYTES  # what sealing adds to a body
IS_KIND = np.zeros(256, bool)
IS_KIND[[*Kind]] = True
IS_SEALED_KIND = np.zeros(256, bool)
IS_SEALED_KIND[[Kind.SYMBOL, Kind.MESSAGE]] = True
assert SEAL_BYTES == 32  # noqa: S101 - our layout, not their bytes


class Drop(str, Enum):
    """Why a datagram was not used. Every datagram that is received has one fate; these are the bad ones."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NOT_GRADFEC = "not_gradfec"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_SESSION = "unknown_session"
    FOREIGN_ADDRESS = "foreign_address"
    RATE_LIMIT = "rate_limit"
    FORGED = "forged"
    REPLAYED = "replayed"
    TOO_OLD = "too_old"
    BAD_MESSAGE = "bad_message"
    WRONG_SPLIT = "wrong_split"
    WRONG_ROWS = "wrong_rows"
    UNKNOWN_QUANTISER = "unknown_quantiser"
    UNKNOWN_FILL = "unknown_fill"
    UNKNOWN_CODE = "unknown_code"
    BAD_PARAMETERS = "bad_parameters"
    BAD_LENGTH = "bad_length"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    LATE = "late"
    OUT_OF_WINDOW = "out_of_window"
    UNEXPECTED = "unexpected"
    TENSOR_LIMIT = "tensor_limit"
    MEMORY_LIMIT = "memory_limit"
    LEAVING = "leaving"


# --- symbols -------------------------------------------------------------------------------------------------------

SYMBOL_HEADER = np.dtype(
    [
        ("tensor", ">u4"),
        ("sent", ">u2"),
        ("kept", ">u2"),
        ("split", ">u2"),
        ("blocks", "u1"),
        ("rows", "u1"),
        ("quantiser", "u1"),
        ("fill", "u1"),
        ("low", ">f4"),
        ("high", ">f4"),
        ("position", ">u2"),
        ("block", "u1"),
        ("code", "u1"),
        ("n", ">u2"),
        ("k", ">u2"),
        ("index", ">u2"),
    ]
)
HEADER_BYTES = SYMBOL_HEADER.itemsize
# In words of two bytes: what is the same in every datagram of a tensor, and what is in every datagram of a block.
TENSOR_WORDS = slice(0, 11)  # bytes 0..21
BLOCK_WORDS = slice(12, 15)  # bytes 24..29: block, code, n, k
PLACE_BYTES = 2  # u16 in front of a packet's bytes, inside the symbol: a recovered packet knows where it belongs
OVERHEAD_BYTES = SEAL_BYTES + HEADER_BYTES + PLACE_BYTES  # of a datagram that carries one packet
MAX_SYMBOL_BYTES = MAX_DATAGRAM_BYTES - SEAL_BYTES - HEADER_BYTES
MAX_SYMBOLS = 65_535  # `sent`, `position`
MAX_BLOCKS = 255
assert HEADER_BYTES == 32  # noqa: S101 - our layout, not their bytes


def header_words(headers: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """View (m,) SYMBOL_HEADER records as (m, 16) words, to be compared, whatever their byte order."""
    return headers.view(np.uint16).reshape(-1, HEADER_BYTES // 2)


def symbol_bodies(headers: npt.NDArray[Any], symbols: Bytes) -> Bytes:
    """Join (sent,) SYMBOL_HEADER records with (sent, length) symbols into (sent, bytes) bodies, to be sealed."""
    sent, length = symbols.shape
    bodies = np.empty((sent, HEADER_BYTES + length), np.uint8)
    bodies[:, :HEADER_BYTES] = headers.view(np.uint8).reshape(sent, HEADER_BYTES)  # (sent,) -> (sent, 32)
    bodies[:, HEADER_BYTES:] = symbols
    return bodies


def read_symbols(bodies: Bytes) -> tuple[npt.NDArray[Any], Bytes]:
    """Undo `symbol_bodies`, of bodies longer than a header: the symbols are a view of them."""
    headers = np.ascontiguousarray(bodies[:, :HEADER_BYTES]).view(SYMBOL_HEADER)[:, 0]  # (m, 32) -> (m, 1) -> (m,)
    return headers, bodies[:, HEADER_BYTES:]


def with_places(places: npt.NDArray[np.integer[Any]], packets: Bytes) -> Bytes:
    """Put each packet's place in front of its bytes: (k,) and (k, size) to symbols (k, 2 + size)."""
    symbols = np.empty((len(packets), PLACE_BYTES + packets.shape[1]), np.uint8)
    symbols[:, :PLACE_BYTES] = places.astype(">u2").view(np.uint8).reshape(-1, PLACE_BYTES)
    symbols[:, PLACE_BYTES:] = packets
    return symbols


def without_places(symbols: Bytes) -> tuple[npt.NDArray[np.intp], Bytes]:
    """Undo `with_places`."""
    places = np.ascontiguousarray(symbols[:, :PLACE_BYTES]).view(">u2")[:, 0].astype(np.intp)
    return places, symbols[:, PLACE_BYTES:]


# --- receiving -----------------------------------------------------------------------------------------------------


MIN_WIDTH_BYTES = OUTER_HEADER_BYTES  # of a batch's buffer, whatever its datagrams: its columns can be looked at


class Batch(NamedTuple):
    """Datagrams as they came, one a row.

    `buffer` (count, width) uint8, C-contiguous, at least MIN_WIDTH_BYTES wide; `lengths` (count,) bytes of each;
    `peers`, the distinct senders, and `senders` (count,), which of them sent each.
    """

    buffer: Bytes
    lengths: npt.NDArray[np.intp]
    senders: npt.NDArray[np.intp]
    peers: Sequence[Hashable]

    def peer(self, row: int) -> Hashable:
        """Return who sent a datagram."""
        return self.peers[int(self.senders[row])]

    def datagram(self, row: int) -> Bytes:
        """Return the bytes of a datagram."""
        return self.buffer[row, : self.lengths[row]]


def batch_of(datagrams: Sequence[bytes], peers: Sequence[Hashable]) -> Batch:
    """Make a batch of single datagrams, each with its sender."""
    width = max([*map(len, datagrams), MAX_DATAGRAM_BYTES + 1])
    buffer = np.zeros((len(datagrams), width), np.uint8)
    for row, datagram in zip(buffer, datagrams, strict=True):
        row[: len(datagram)] = np.frombuffer(datagram, np.uint8)
    distinct = {peer: number for number, peer in enumerate(dict.fromkeys(peers))}
    senders = np.array([distinct[peer] for peer in peers], np.intp)
    return Batch(buffer, np.array([*map(len, datagrams)], np.intp), senders, [*distinct])


@dataclass(frozen=True)
class Sorted:
    """A batch, sorted by what it claims to be; all but `drops` are row numbers of the batch.

    `sealed` go with (sealed,) OUTER_HEADER records.
    """

    sealed: npt.NDArray[np.intp]
    headers: npt.NDArray[Any]
    hellos: npt.NDArray[np.intp]
    welcomes: npt.NDArray[np.intp]
    drops: dict[Drop, npt.NDArray[np.intp]]


def sort_batch(batch: Batch) -> Sorted:
    """Sort a batch by what can be seen from without, and drop, with a reason, what cannot be ours. Never raises."""
    buffer, lengths = batch.buffer, batch.lengths
    drops: dict[Drop, npt.NDArray[np.intp]] = {}
    alive: npt.NDArray[np.intp] = np.arange(len(lengths))

    def keep(good: npt.NDArray[np.bool_], reason: Drop) -> None:
        nonlocal alive
        if not good.all():
            drops[reason] = alive[~good]
            alive = alive[good]

    keep(lengths > SEAL_BYTES, Drop.TOO_SHORT)
    keep(buffer[alive, 0] == MAGIC, Drop.NOT_GRADFEC)
    keep(lengths[alive] <= min(MAX_DATAGRAM_BYTES, buffer.shape[1]), Drop.TOO_LONG)
    keep(buffer[alive, 1] == VERSION, Drop.UNKNOWN_VERSION)
    keep(IS_KIND[buffer[alive, 2]], Drop.UNKNOWN_KIND)
    kinds = buffer[alive, 2]
    sealed = alive[IS_SEALED_KIND[kinds]]
    headers = np.ascontiguousarray(buffer[sealed, :OUTER_HEADER_BYTES]).view(OUTER_HEADER)[:, 0]
    return Sorted(sealed, headers, alive[kinds == Kind.HELLO], alive[kinds == Kind.WELCOME], drops)


# --- control messages ----------------------------------------------------------------------------------------------

MAX_TEXT_BYTES = 256
MAX_MAP_BYTES = 1024  # of a report's map of what arrived: it must fit a datagram
MAX_PART_BYTES = 1024  # of a sketch
MAX_PADDING_BYTES = 1024
MAX_ANSWER_BYTES = 1024  # of an answer in msgpack: a result must fit a datagram
MAX_ANSWER_DEPTH = 4  # lists and maps inside each other
OUTCOMES = ("complete", "partial")


class MessageKind(IntEnum):
    """What a control message is: the first byte of its body."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    PING = 4
    PONG = 5
    RESULT = 6
    REPORT = 7
    ACK = 8
    BYE = 9
    SKETCH = 10


@dataclass(frozen=True)
class Hello:
    """Edge to cloud, inside a hello: what the edge will send, and under which cipher both sides are to seal."""

    kind: ClassVar[MessageKind] = MessageKind.HELLO
    cipher: int
    split: int
    rows: int
    name: str


@dataclass(frozen=True)
class Welcome:
    """Cloud to edge, inside a welcome: tensors are decided `deadline_ms` after their first datagram.

    `sketches`: whether somebody there would like to see what the edge does.
    """

    kind: ClassVar[MessageKind] = MessageKind.WELCOME
    deadline_ms: int
    sketches: bool = False


@dataclass(frozen=True)
class Refuse:
    """Cloud to edge, in a welcome's place: no session. `reason` is one word, `detail` a sentence for the user."""

    kind: ClassVar[MessageKind] = MessageKind.REFUSE
    reason: str
    detail: str


@dataclass(frozen=True)
class Ping:
    """Edge to cloud: are you there? `padding`, of any bytes, pays for the answers that are due."""

    kind: ClassVar[MessageKind] = MessageKind.PING
    padding: bytes = b""


@dataclass(frozen=True)
class Pong:
    """Cloud to edge: yes."""

    kind: ClassVar[MessageKind] = MessageKind.PONG


@dataclass(frozen=True)
class Result:
    """Cloud to edge: the answer for a tensor, repeated until acknowledged; counts as they stood when it was decided."""

    kind: ClassVar[MessageKind] = MessageKind.RESULT
    tensor: int
    outcome: str  # one of OUTCOMES
    answer: Any  # as the head packs it: plain data, which the edge's head reads
    recovered: int
    missing: int
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Cloud to edge: what became of a tensor's datagrams, once no more are expected; repeated until acknowledged."""

    kind: ClassVar[MessageKind] = MessageKind.REPORT
    tensor: int
    sent: int
    received: int
    bursts: int  # runs of consecutive lost datagrams, in send order
    arrived: bytes = b""  # a bit for each datagram in send order, the first the highest; or nothing


@dataclass(frozen=True)
class Ack:
    """Edge to cloud: these results and reports have arrived."""

    kind: ClassVar[MessageKind] = MessageKind.ACK
    results: list[int]
    reports: list[int]


@dataclass(frozen=True)
class Bye:
    """Either way: the session is over."""

    kind: ClassVar[MessageKind] = MessageKind.BYE


@dataclass(frozen=True)
class SketchPart:
    """Edge to cloud: one of the `n` symbols of a sketch of a tensor (module `sketch`), of which any `k` will do."""

    kind: ClassVar[MessageKind] = MessageKind.SKETCH
    tensor: int
    n: int
    k: int
    index: int
    data: bytes


Message = Hello | Welcome | Refuse | Ping | Pong | Result | Report | Ack | Bye | SketchPart
MESSAGES: dict[int, type[Message]] = {
    message.kind: message for message in (Hello, Welcome, Refuse, Ping, Pong, Result, Report, Ack, Bye, SketchPart)
}


def message_body(message: Message) -> bytes:
    """Encode a control message, to be sealed."""
    body: bytes = bytes([message.kind]) + msgpack.packb(asdict(message))
    return body


def read_message(untrusted: bytes) -> Message | Drop:
    """Decode a control message that was authentic, or say why not: whoever has a key may still lie."""
    try:
        return _message(MESSAGES[untrusted[0]], msgpack.unpackb(untrusted[1:], strict_map_key=True))
    except Exception:  # msgpack raises many types for hostile bytes; each means the same here
        return Drop.BAD_MESSAGE


def _message(message_type: type[Message], untrusted: Any) -> Message:
    """Build a message from a decoded body, ignoring unknown keys; ValueError or KeyError if it is not one."""
    if type(untrusted) is not dict:
        raise ValueError("not a map")
    for field in fields(message_type):
        if not IS_VALID[field.name](untrusted[field.name]):
            raise ValueError(field.name)
    return message_type(**{field.name: untrusted[field.name] for field in fields(message_type)})


def _is_uint(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value < 2**bits


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value.encode()) <= MAX_TEXT_BYTES


def _is_number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _are_bytes(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is bytes and len(value) <= most


def _are_tensors(value: Any) -> bool:
    return type(value) is list and all(map(_is_uint(32), value))


def is_answer(value: Any) -> bool:
    """Return whether a result can carry a value: finite plain data, not too deep, and short enough."""
    return _is_plain(value, MAX_ANSWER_DEPTH) and len(msgpack.packb(value)) <= MAX_ANSWER_BYTES


def _is_plain(value: Any, depth: int) -> bool:
    if type(value) is list:
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if type(value) is dict:
        return depth > 0 and all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())
    return value is None or type(value) in (bool, int, str, bytes) or _is_number(value)


def _are_stages(value: Any) -> bool:
    return type(value) is dict and all(_is_text(name) and _is_number(ms) for name, ms in value.items())


# What each field of a control message may hold; a name means the same in every message that has it.
IS_VALID: dict[str, Callable[[Any], bool]] = {
    "cipher": _is_uint(8),
    "split": _is_uint(16),
    "rows": _is_uint(16),
    "name": _is_text,
    "deadline_ms": _is_uint(32),
    "reason": _is_text,
    "detail": _is_text,
    "tensor": _is_uint(32),
    "outcome": lambda value: value in OUTCOMES,
    "answer": is_answer,
    "recovered": _is_uint(16),
    "missing": _is_uint(16),
    "stages_ms": _are_stages,
    "sent": _is_uint(16),
    "received": _is_uint(16),
    "bursts": _is_uint(16),
    "arrived": _are_bytes(MAX_MAP_BYTES),
    "sketches": lambda value: type(value) is bool,
    "n": _is_uint(8),
    "k": _is_uint(8),
    "index": _is_uint(8),
    "data": _are_bytes(MAX_PART_BYTES),
    "padding": _are_bytes(MAX_PADDING_BYTES),
    "results": _are_tensors,
    "reports": _are_tensors,
}
