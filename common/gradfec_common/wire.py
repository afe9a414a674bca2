"""The wire format, version 1: the only module that knows where a byte stands. docs/PROTOCOL.md specifies it.

Every datagram is: magic, version, kind, flags, session; then, for symbols, the fixed rest of a 40-byte header and the
coded symbol, or, for control messages, a msgpack map; then the CRC-32 of all that.
Integers are big-endian.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Enum, IntEnum
from typing import Any, ClassVar, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt

MAGIC = 0x47  # "G"
VERSION = 1
MAX_DATAGRAM_BYTES = 1200  # of UDP payload: below any path's MTU, so that IP never fragments

Bytes = npt.NDArray[np.uint8]


class Kind(IntEnum):
    """What a datagram is."""

    SYMBOL = 1
    HELLO = 16
    WELCOME = 17
    REFUSE = 18
    RESULT = 19
    REPORT = 20
    ACK = 21
    BYE = 22


class Drop(str, Enum):
    """Why a datagram was not used. Every datagram that is received has one fate; these are the bad ones."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NOT_GRADFEC = "not_gradfec"
    BAD_CHECKSUM = "bad_checksum"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_KIND = "unknown_kind"
    BAD_MESSAGE = "bad_message"
    UNKNOWN_SESSION = "unknown_session"
    FOREIGN_ADDRESS = "foreign_address"
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
        ("magic", "u1"),
        ("version", "u1"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("session", ">u4"),
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
TENSOR_WORDS = slice(2, 15)  # bytes 4..29
BLOCK_WORDS = slice(16, 19)  # bytes 32..37: block, code, n, k
PLACE_BYTES = 2  # u16 in front of a packet's bytes, inside the symbol: a recovered packet knows where it belongs
CHECKSUM_BYTES = 4
IS_KIND = np.zeros(256, bool)
IS_KIND[[*Kind]] = True
OVERHEAD_BYTES = HEADER_BYTES + PLACE_BYTES + CHECKSUM_BYTES  # of a datagram that carries one packet
MAX_SYMBOL_BYTES = MAX_DATAGRAM_BYTES - HEADER_BYTES - CHECKSUM_BYTES
MAX_SYMBOLS = 65_535  # `sent`, `position`
MAX_BLOCKS = 255
assert HEADER_BYTES == 40  # noqa: S101 - our layout, not their bytes


def header_words(headers: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """View (m,) SYMBOL_HEADER records as (m, 20) words, to be compared, whatever their byte order."""
    return headers.view(np.uint16).reshape(-1, HEADER_BYTES // 2)


def symbol_datagrams(headers: npt.NDArray[Any], symbols: Bytes) -> Bytes:
    """Join (sent,) SYMBOL_HEADER records with (sent, length) symbols into a (sent, bytes) matrix of datagrams.

    Fills in magic, version, kind and flags, and appends each datagram's checksum.
    """
    sent, length = symbols.shape
    headers["magic"], headers["version"], headers["kind"], headers["flags"] = MAGIC, VERSION, Kind.SYMBOL, 0
    datagrams = np.empty((sent, HEADER_BYTES + length + CHECKSUM_BYTES), np.uint8)
    records = datagrams.view(_symbol_datagram(length))[:, 0]
    records["header"], records["symbol"] = headers.view(f"V{HEADER_BYTES}"), symbols
    records["checksum"] = np.fromiter(map(zlib.crc32, records["checked"].tolist()), np.uint32, sent)
    return datagrams


def _symbol_datagram(length: int) -> np.dtype[np.void]:
    """Return the layout of a datagram with a symbol of `length` bytes; `checked` is all that its checksum is of."""
    body = HEADER_BYTES + length
    return np.dtype(
        {
            "names": ["header", "symbol", "checked", "checksum"],
            "formats": [f"V{HEADER_BYTES}", ("u1", (length,)), f"V{body}", ">u4"],
            "offsets": [0, HEADER_BYTES, 0, body],
        }
    )


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


MIN_WIDTH_BYTES = HEADER_BYTES  # of a batch's buffer, whatever its datagrams: its columns can be looked at


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
class Opened:
    """A batch, sorted by what may be done with it; `symbols` and `control` are row numbers of the batch."""

    symbols: npt.NDArray[np.intp]
    headers: npt.NDArray[Any]  # (symbols,) SYMBOL_HEADER
    control: npt.NDArray[np.intp]
    drops: dict[Drop, npt.NDArray[np.intp]]


def open_batch(batch: Batch) -> Opened:
    """Sort a batch into symbols, control messages, and drops with a reason; cheap checks first. Never raises."""
    buffer, lengths = batch.buffer, batch.lengths
    drops: dict[Drop, npt.NDArray[np.intp]] = {}
    alive: npt.NDArray[np.intp] = np.arange(len(lengths))

    def keep(good: npt.NDArray[np.bool_], reason: Drop) -> None:
        nonlocal alive
        if not good.all():
            earlier = drops.get(reason, alive[:0])  # a reason may be found twice
            drops[reason] = np.concatenate([earlier, alive[~good]])
            alive = alive[good]

    keep(lengths >= CONTROL_HEADER_BYTES + CHECKSUM_BYTES, Drop.TOO_SHORT)
    keep(buffer[alive, 0] == MAGIC, Drop.NOT_GRADFEC)
    keep(lengths[alive] <= min(MAX_DATAGRAM_BYTES, buffer.shape[1]), Drop.TOO_LONG)
    keep(_checksums_hold(buffer, alive, lengths[alive]), Drop.BAD_CHECKSUM)
    keep(buffer[alive, 1] == VERSION, Drop.UNKNOWN_VERSION)
    keep(IS_KIND[buffer[alive, 2]], Drop.UNKNOWN_KIND)
    is_symbol = buffer[alive, 2] == Kind.SYMBOL
    keep(~is_symbol | (lengths[alive] > OVERHEAD_BYTES), Drop.TOO_SHORT)
    is_symbol = buffer[alive, 2] == Kind.SYMBOL
    symbols, control = alive[is_symbol], alive[~is_symbol]
    headers = np.ascontiguousarray(buffer[symbols, :HEADER_BYTES]).view(SYMBOL_HEADER)[:, 0]
    return Opened(symbols, headers, control, drops)


def _checksums_hold(buffer: Bytes, rows: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Tell of (m,) rows of a batch's buffer whether each one's last four bytes are the CRC-32 of the others."""
    ends = rows * buffer.shape[1] + lengths - CHECKSUM_BYTES
    claimed = buffer.reshape(-1)[ends[:, None] + np.arange(CHECKSUM_BYTES)].view(">u4")[:, 0]  # (m, 4) -> (m,)
    every = memoryview(buffer.reshape(-1))  # type: ignore[arg-type]
    starts = (rows * buffer.shape[1]).tolist()
    actual = [zlib.crc32(every[start:end]) for start, end in zip(starts, ends.tolist(), strict=True)]
    held: npt.NDArray[np.bool_] = claimed == np.array(actual, np.uint32)
    return held


# --- control messages ----------------------------------------------------------------------------------------------

CONTROL_HEADER_BYTES = 8  # magic, version, kind, flags, session u32
MAX_TEXT_BYTES = 256
OUTCOMES = ("complete", "partial")


@dataclass(frozen=True)
class Hello:
    """Edge to cloud: open a session, or keep it; the answer echoes `nonce` (u64, drawn anew at each start)."""

    kind: ClassVar[Kind] = Kind.HELLO
    nonce: int
    split: int
    rows: int
    name: str


@dataclass(frozen=True)
class Welcome:
    """Cloud to edge: the session is open, tensors are decided `deadline_ms` after their first datagram."""

    kind: ClassVar[Kind] = Kind.WELCOME
    nonce: int
    deadline_ms: int


@dataclass(frozen=True)
class Refuse:
    """Cloud to edge: there will be no session. `reason` is one word, `detail` a sentence for the user."""

    kind: ClassVar[Kind] = Kind.REFUSE
    nonce: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Result:
    """Cloud to edge: the answer for a tensor, repeated until acknowledged; counts as they stood when it was decided."""

    kind: ClassVar[Kind] = Kind.RESULT
    tensor: int
    outcome: str  # one of OUTCOMES
    top5: list[list[Any]]  # [class index, label, score], best first
    recovered: int
    missing: int
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Cloud to edge: what became of a tensor's datagrams, once no more are expected; repeated until acknowledged."""

    kind: ClassVar[Kind] = Kind.REPORT
    tensor: int
    sent: int
    received: int
    bursts: int  # runs of consecutive lost datagrams, in send order


@dataclass(frozen=True)
class Ack:
    """Edge to cloud: these results and reports have arrived."""

    kind: ClassVar[Kind] = Kind.ACK
    results: list[int]
    reports: list[int]


@dataclass(frozen=True)
class Bye:
    """Either way: the session is over."""

    kind: ClassVar[Kind] = Kind.BYE


Message = Hello | Welcome | Refuse | Result | Report | Ack | Bye
MESSAGES: dict[int, type[Message]] = {
    message.kind: message for message in (Hello, Welcome, Refuse, Result, Report, Ack, Bye)
}


def control_datagram(session: int, message: Message) -> bytes:
    """Encode a control message; `session` is 0 where there is none yet."""
    head = bytes([MAGIC, VERSION, message.kind, 0]) + session.to_bytes(4, "big")
    body: bytes = head + msgpack.packb(asdict(message))
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big")


def read_control(datagram: Bytes) -> tuple[int, Message] | Drop:
    """Decode a control message that `open_batch` let through into (session, message), or say why not."""
    raw = datagram.tobytes()
    try:
        body = msgpack.unpackb(raw[CONTROL_HEADER_BYTES:-CHECKSUM_BYTES], strict_map_key=True)
        message = _message(MESSAGES[raw[2]], body)
    except Exception:  # msgpack raises many types for hostile bytes; each means the same here
        return Drop.BAD_MESSAGE
    return int.from_bytes(raw[4:8], "big"), message


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


def _are_tensors(value: Any) -> bool:
    return type(value) is list and all(map(_is_uint(32), value))


def _are_answers(value: Any) -> bool:
    return type(value) is list and len(value) <= 5 and all(map(_is_answer, value))


def _is_answer(value: Any) -> bool:
    if type(value) is not list or len(value) != 3:
        return False
    return _is_uint(16)(value[0]) and _is_text(value[1]) and _is_number(value[2])


def _are_stages(value: Any) -> bool:
    return type(value) is dict and all(_is_text(name) and _is_number(ms) for name, ms in value.items())


# What each field of a control message may hold; a name means the same in every message that has it.
IS_VALID: dict[str, Callable[[Any], bool]] = {
    "nonce": _is_uint(64),
    "split": _is_uint(16),
    "rows": _is_uint(16),
    "name": _is_text,
    "deadline_ms": _is_uint(32),
    "reason": _is_text,
    "detail": _is_text,
    "tensor": _is_uint(32),
    "outcome": lambda value: value in OUTCOMES,
    "top5": _are_answers,
    "recovered": _is_uint(16),
    "missing": _is_uint(16),
    "stages_ms": _are_stages,
    "sent": _is_uint(16),
    "received": _is_uint(16),
    "bursts": _is_uint(16),
    "results": _are_tensors,
    "reports": _are_tensors,
}
