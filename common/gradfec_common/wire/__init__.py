"""The wire format, version 3: the only package that knows where each byte is, except inside a symbol.

docs/reference/protocol.md specifies it. `outer` is what every datagram begins with, `symbol` the header of those that
carry symbols, `messages` the control messages, `drops` the reasons for not using a datagram. Inside a symbol,
`gradfec_common.symbols` takes over.
"""

from __future__ import annotations

from gradfec_common.wire.drops import Drop
from gradfec_common.wire.messages import (
    IS_VALID,
    MAX_ANSWER_BYTES,
    MAX_ANSWER_DEPTH,
    MAX_FORMS,
    MAX_MAP_BYTES,
    MAX_PADDING_BYTES,
    MAX_PART_BYTES,
    MAX_TEXT_BYTES,
    MESSAGES,
    OUTCOMES,
    Ack,
    Bye,
    Hello,
    Message,
    MessageKind,
    Ping,
    Pong,
    Refuse,
    Report,
    Request,
    Result,
    SketchPart,
    Welcome,
    is_answer,
    message_body,
    read_message,
)
from gradfec_common.wire.outer import (
    MAGIC,
    MAX_DATAGRAM_BYTES,
    MIN_WIDTH_BYTES,
    OUTER_HEADER,
    OUTER_HEADER_BYTES,
    SEAL_BYTES,
    TAG_BYTES,
    VERSION,
    Batch,
    Bytes,
    Kind,
    Sorted,
    batch_of,
    sort_batch,
)

__all__ = [
    "IS_VALID", "MAGIC", "MAX_ANSWER_BYTES", "MAX_ANSWER_DEPTH", "MAX_DATAGRAM_BYTES", "MAX_FORMS",
    "MAX_MAP_BYTES", "MAX_PADDING_BYTES", "MAX_PART_BYTES", "MAX_TEXT_BYTES", "MESSAGES", "MIN_WIDTH_BYTES", "OUTCOMES",
    "OUTER_HEADER", "OUTER_HEADER_BYTES", "SEAL_BYTES", "TAG_BYTES", "VERSION", "Ack", "Batch", "Bye", "Bytes",
    "Drop", "Hello", "Kind", "Message", "MessageKind", "Ping", "Pong", "Refuse", "Report", "Request", "Result",
    "SketchPart", "Sorted", "Welcome", "batch_of", "is_answer", "message_body", "read_message", "sort_batch",
]  # fmt: skip
