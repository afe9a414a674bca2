"""Two network namespaces, each with a TUN device: what one end sends comes out of a file, as IP packets.

Devices and namespaces end with these files and the sockets. This machine's own network stays as it is.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gradfec_common.errors import GradfecError

# From Linux's sched.h and if_tun.h.
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
INTERFACE_REQUEST = struct.Struct("=16sH22x")
TUN = "/dev/net/tun"
DEVICE = "rival0"
NEAR, FAR = "10.78.0.1", "10.78.0.2"


@dataclass(frozen=True)
class End:
    """One end: the files of its TUN device and of its network namespace, and a TCP socket inside."""

    tun: int
    namespace: int
    socket: socket.socket

    @property
    def enter(self) -> tuple[str, ...]:
        """The words in front of a command that is to run inside; it needs the file of the namespace."""
        return ("nsenter", f"--net=/proc/self/fd/{self.namespace}")


@contextmanager
def two_ends() -> Iterator[tuple[End, End]]:
    """Make the near and the far end; GradfecError, which says what is missing, if this machine does not allow it."""
    with ExitStack() as stack:
        ends = []
        for address, peer in ((NEAR, FAR), (FAR, NEAR)):
            try:
                with ThreadPoolExecutor(1) as thread:  # only this thread leaves the machine's own namespace
                    end = thread.submit(_end, address, peer).result()
            except OSError as error:
                raise GradfecError(f"cannot make a network namespace with a TUN device: {error}") from None
            for file in (end.tun, end.namespace):
                stack.callback(os.close, file)
            stack.enter_context(end.socket)
            ends.append(end)
        yield ends[0], ends[1]


def why_not() -> str:
    """Return why such ends are impossible here; "" if they are possible."""
    if not hasattr(os, "geteuid") or os.geteuid():
        return "network namespaces with TUN devices need root, on Linux"
    if shutil.which("ip") is None:
        return "there is no program ip: apt-get install iproute2"
    try:
        with two_ends():
            return ""
    except GradfecError as error:
        return str(error)


def _end(address: str, peer: str) -> End:
    """Make an end, in a new namespace of the calling thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(tun, TUNSETIFF, INTERFACE_REQUEST.pack(DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        for words in (f"addr add {address} peer {peer} dev {DEVICE}", f"link set {DEVICE} up"):
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"ip {words}: {done.stderr.strip()}")
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        return End(tun, namespace, socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    except OSError:
        os.close(tun)
        raise
