"""Equally long datagrams to a UDP socket: many a system call where kernel and device have UDP_SEGMENT, or one a call.

With UDP_SEGMENT (Linux 4.18, udp(7)) the kernel cuts what one call gives it into datagrams of the length that comes
with it as ancillary data. What the receiver gets is the same either way.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any, NamedTuple

from gradfec_common.wire import Bytes

UDP_SEGMENT = 103  # from Linux's udp.h; Python's socket module does not name it
SEGMENT = struct.Struct("=H")
MAX_SEGMENTS = 64  # a call, in every kernel
MAX_RUN_BYTES = 65_000  # a little below the 65,507 B of the longest UDP datagram, or the kernel splits the run
# A device without checksum offload; a path with an MTU below the datagrams' length; a kernel without this option.
CANNOT_SEGMENT = {errno.EIO, errno.EMSGSIZE, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOSYS}


def can_segment(opened: socket.socket) -> bool:
    """Return whether the kernel supports UDP_SEGMENT. Only sending shows whether the device does, too."""
    try:
        opened.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


class Sent(NamedTuple):
    """The fate of the first `datagrams` datagrams: `taken` by the kernel, or refused, for example without a route."""

    datagrams: int
    taken: bool


class Sender:
    """Sends the rows of a matrix as datagrams through a non-blocking socket."""

    def __init__(self, opened: socket.socket, *, batched: bool = True) -> None:
        """Send through `opened`; one datagram a call if `batched` is False or the kernel cannot do more."""
        self.batched = batched and can_segment(opened)
        self._socket = opened

    def send(self, datagrams: Bytes, address: tuple[Any, ...]) -> Sent:
        """Send as many of (m, bytes) datagrams, m >= 1, as one call takes.

        Raises BlockingIOError if the kernel has no room for them now.
        """
        count = min(len(datagrams), MAX_SEGMENTS, MAX_RUN_BYTES // datagrams.shape[1]) if self.batched else 1
        try:
            if count > 1:
                run = datagrams[:count].reshape(-1).data  # (count, bytes) -> one after the other
                segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT.pack(datagrams.shape[1]))]
                self._socket.sendmsg([run], segment, 0, address)
            else:
                self._socket.sendto(datagrams[0].data, address)
        except BlockingIOError:
            raise
        except OSError as error:
            if count > 1 and error.errno in CANNOT_SEGMENT:
                self.batched = False
                return self.send(datagrams, address)
            return Sent(count, taken=False)
        return Sent(count, taken=True)
