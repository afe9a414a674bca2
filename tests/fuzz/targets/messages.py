"""Control messages: what can be read can be written, and reads as the same."""

from __future__ import annotations

from gradfec_common.wire import MESSAGES, Drop, message_body, read_message


def target(data: bytes) -> None:
    """Read the bytes as a message."""
    message = read_message(data)
    if message is Drop.BAD_MESSAGE:
        return
    assert type(message) is MESSAGES[data[0]]
    body = message_body(message)
    again = read_message(body)
    assert again == message
    assert message_body(again) == body
