"""docs/reference/protocol.md has the parts of hello and welcome, and the times and limits of both cores."""

from __future__ import annotations

import numpy as np
from tests.common.protocol_page import IN_ONE_LINE, layout, tables

from gradfec_common.session import handshake
from gradfec_common.session.edge import EdgeLimits
from gradfec_common.session.events import CloudLimits


def test_the_page_has_the_parts_of_hello_and_welcome_at_their_offsets() -> None:
    parts = [("header", 8), ("key id", 8), ("edge key", 32), ("sealed", 448), ("tag", 16)]
    offsets = np.cumsum([0, *(size for _, size in parts)]).tolist()
    written = layout(tables(f"3.1 HELLO: exactly {handshake.HELLO_BYTES} bytes")[0])
    assert written == [(name, offset, size) for (name, size), offset in zip(parts, offsets[:-1], strict=True)]
    assert offsets[-1] == handshake.HELLO_BYTES
    shortest, longest = handshake.MIN_WELCOME_BYTES, handshake.MAX_WELCOME_BYTES
    assert layout(tables(f"3.2 WELCOME: {shortest} to {longest} bytes")[0]) == [("header", 0, 8), ("cloud key", 8, 32)]


def test_the_page_states_the_times_and_limits_of_the_product() -> None:
    cloud, edge = CloudLimits(), EdgeLimits()
    for text in (
        f"the last {cloud.greetings} of them",
        f"within {cloud.greeting_s:g} s",
        f"at a rate of {cloud.hellos_per_s:g} a second, of one address {cloud.hellos_per_s_and_address:g} a second",
        f"It holds {cloud.tensors_per_session} times as many as a tensor of any of its forms has packets",
        f"and gains {cloud.tensors_per_s:g} times as many a second",
        f"ends a session after {cloud.session_idle_s:g} s of silence",
        f"{cloud.reorder_s * 1000:g} ms after its last datagram",
        f"over {cloud.tensor_window} ahead of the newest",
        f"at most for {cloud.answer_stale_s:g} s",
        f"at first every {edge.repeat_s:g} s, then ever more slowly to every {edge.repeat_max_s:g} s",
        f"after {edge.hello_renew_s:g} s without an answer",
        f"(PING) after {edge.probe_after_s:g} s of silence while something is due",
        f"after {edge.keepalive_s:g} s otherwise",
        f"link lost after {edge.lost_after_s:g} s of silence while something is due. Then it goes on asking",
        f"After another {edge.hello_after_s:g} s",
        f"repeats its BYE every {edge.bye_repeat_s:g} s until the cloud's, at most for {edge.bye_patience_s:g} s",
        f"or {edge.report_timeout_s:g} s after the RESULT alone",
        f"({edge.answer_timeout_s:g} s after sending, by default)",
    ):
        assert text in IN_ONE_LINE
    assert cloud.hello_burst_s == 2  # "bursts of twice as many"
