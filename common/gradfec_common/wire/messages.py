"""Control messages: a byte that says which, and a msgpack map. docs/reference/protocol.md specifies them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar

import msgpack

from gradfec_common.wire.drops import Drop

DIGEST_BYTES = 16  # of a network
MAX_TEXT_BYTES = 256
MAX_MAP_BYTES = 1024  # of a report's map of what arrived: it must fit a datagram
MAX_PART_BYTES = 1024  # of a sketch
MAX_PADDING_BYTES = 1024
MAX_ANSWER_BYTES = 1024  # of an answer in msgpack: a result must fit a datagram
MAX_ANSWER_DEPTH = 4  # lists and maps inside each other
MAX_FORMS = 4  # of an edge's tensors: a hello must fit its datagram
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
    REQUEST = 11


@dataclass(frozen=True)
class Hello:
    """Edge to cloud, inside a hello: the forms of what the edge will send, and the cipher under which both sides seal.

    A form is a network's digest, the number of a cut, and the rows of a packet. Form 0 is the edge's own, form i the
    i-th of `also`, counted from 1: a cloud may do without those.
    """

    kind: ClassVar[MessageKind] = MessageKind.HELLO
    cipher: int
    model: bytes  # the digest of its network
    cut: int
    rows: int
    name: str
    also: list[list[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Welcome:
    """Cloud to edge, inside a welcome: tensors are decided `deadline_ms` after their first datagram.

    `sketches`: whether the cloud wants sketches for its live page. `forms`: those that it takes.
    """

    kind: ClassVar[MessageKind] = MessageKind.WELCOME
    deadline_ms: int
    sketches: bool = False
    forms: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True)
class Refuse:
    """Cloud to edge, in a welcome's place: no session. `reason` is one word, `detail` a sentence for the user."""

    kind: ClassVar[MessageKind] = MessageKind.REFUSE
    reason: str
    detail: str


@dataclass(frozen=True)
class Ping:
    """Edge to cloud: are you there? `padding`, of any bytes, lets the cloud send as many bytes in answer."""

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
    """Cloud to edge: what became of a tensor's datagrams, once no more are expected; repeated until acknowledged.

    Two reports that differ only in their times say the same.
    """

    kind: ClassVar[MessageKind] = MessageKind.REPORT
    tensor: int
    sent: int
    received: int
    bursts: int  # runs of consecutive lost datagrams, in send order
    arrived: bytes = b""  # a bit for each datagram in send order, the first the highest; or nothing
    first_us: int = field(default=0, compare=False)  # when the first datagram came, by the cloud's clock
    span_us: int = field(default=0, compare=False)  # from then until the last one came
    held_us: int = field(default=0, compare=False)  # from then until the report was made


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
    """Edge to cloud: one of the `parts` of a tensor's sketch (module `sketch`), counted from 0; all make the sketch.

    `form` is the tensor's.
    """

    kind: ClassVar[MessageKind] = MessageKind.SKETCH
    tensor: int
    part: int
    parts: int
    data: bytes
    form: int = 0


@dataclass(frozen=True)
class Request:
    """Cloud to edge: send the datagrams of a tensor at all positions below `until` that have not been sent yet."""

    kind: ClassVar[MessageKind] = MessageKind.REQUEST
    tensor: int
    until: int


Message = Hello | Welcome | Refuse | Ping | Pong | Result | Report | Ack | Bye | SketchPart | Request
MESSAGES: dict[int, type[Message]] = {
    message.kind: message
    for message in (Hello, Welcome, Refuse, Ping, Pong, Result, Report, Ack, Bye, SketchPart, Request)
}


def message_body(message: Message) -> bytes:
    """Encode a control message, to be sealed."""
    body: bytes = bytes([message.kind]) + msgpack.packb(asdict(message))
    return body


def read_message(untrusted: bytes) -> Message | Drop:
    """Decode an authentic control message, or say why not: a sender with the key may still lie."""
    try:
        return _message(MESSAGES[untrusted[0]], msgpack.unpackb(untrusted[1:], strict_map_key=True))
    except Exception:  # msgpack raises many types for hostile bytes; each means the same here
        return Drop.BAD_MESSAGE


def _message(message_type: type[Message], untrusted: Any) -> Message:
    """Build a message from a decoded body, ignoring unknown keys; ValueError or KeyError if it is not one."""
    if type(untrusted) is not dict:
        raise ValueError("not a map")
    names = [one.name for one in fields(message_type)]
    for name in names:
        if not IS_VALID[name](untrusted[name]):
            raise ValueError(name)
    return message_type(**{name: untrusted[name] for name in names})


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


def _are_forms(value: Any) -> bool:
    """Return whether a value lists forms, after the first, each [model, cut, rows]."""
    names = ("model", "cut", "rows")
    return (
        type(value) is list
        and len(value) < MAX_FORMS
        and all(type(one) is list and len(one) == len(names) for one in value)
        and all(IS_VALID[name](part) for one in value for name, part in zip(names, one, strict=True))
    )


def _are_numbers_of_forms(value: Any) -> bool:
    """Return whether a value lists forms that a cloud takes: the edge's own, 0, is always among them."""
    return type(value) is list and 0 in value and all(type(one) is int and 0 <= one < MAX_FORMS for one in value)


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
    "model": lambda value: type(value) is bytes and len(value) == DIGEST_BYTES,
    "cut": _is_uint(16),
    "rows": _is_uint(16),
    "name": _is_text,
    "also": _are_forms,
    "forms": _are_numbers_of_forms,
    "form": lambda value: type(value) is int and 0 <= value < MAX_FORMS,
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
    "until": _is_uint(16),
    "first_us": _is_uint(64),
    "span_us": _is_uint(32),
    "held_us": _is_uint(32),
    "sketches": lambda value: type(value) is bool,
    "part": _is_uint(8),
    "parts": _is_uint(8),
    "data": _are_bytes(MAX_PART_BYTES),
    "padding": _are_bytes(MAX_PADDING_BYTES),
    "results": _are_tensors,
    "reports": _are_tensors,
}
