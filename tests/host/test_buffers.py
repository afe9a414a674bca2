"""The kernel's buffers of a UDP socket: asked for once, and with privilege where the kernel caps them."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable

import pytest

from gradfec_host.buffers import SO_RCVBUFFORCE, SO_SNDBUFFORCE, grow_receive_buffer, grow_send_buffer

WAYS = [
    (grow_receive_buffer, socket.SO_RCVBUF, SO_RCVBUFFORCE),
    (grow_send_buffer, socket.SO_SNDBUF, SO_SNDBUFFORCE),
]


class Capped:
    """A socket of a Linux that grants 1000 B, and more by `force` to the privileged only."""

    def __init__(self, privileged: bool, plain: int, force: int) -> None:
        self.privileged, self.plain, self.force, self.granted, self.asked = privileged, plain, force, 500, []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.asked.append(option)
        if option == self.force and not self.privileged:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.granted = value if option == self.force else min(value, 1000)

    def getsockopt(self, level: int, option: int) -> int:
        assert option == self.plain
        return 2 * self.granted if sys.platform == "linux" else self.granted


@pytest.mark.parametrize(("grow", "plain", "force"), WAYS, ids=["receive", "send"])
@pytest.mark.parametrize(
    ("privileged", "wanted", "granted", "times"), [(False, 800, 800, 1), (False, 4000, 1000, 2), (True, 4000, 4000, 2)]
)
def test_a_buffer_that_the_kernel_caps_is_asked_for_again_with_privilege(
    grow: Callable[[socket.socket, int], int],
    plain: int,
    force: int,
    privileged: bool,
    wanted: int,
    granted: int,
    times: int,
) -> None:
    capped = Capped(privileged, plain, force)
    assert grow(capped, wanted) == granted
    assert capped.asked == [plain, force][:times]
