"""Take down which sealed datagrams arrive at a UDP port, and in which order: `python watch.py INTERFACE PORT`.

Run in the receiver's network namespace. It says "watching" on standard error; on SIGTERM it prints one JSON object: by
session the counters of the datagrams that came (docs/reference/protocol.md, section 4.1), in their order;
and how many it missed.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
from collections import defaultdict
from contextlib import suppress

from gradfec_common.wire import MAGIC, SEAL_BYTES, Kind

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 * 2**20


def watch(interface: str, port: int) -> dict[str, object]:
    """Watch until SIGTERM."""
    counters: dict[int, list[int]] = defaultdict(list)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        tap.bind((interface, ETH_P_IP))
        tap.settimeout(0.1)
        print("watching", file=sys.stderr, flush=True)
        while True:
            try:
                packet, sender = tap.recvfrom(65_535)
            except TimeoutError:
                if stopping:
                    break
                continue
            if sender[2] != PACKET_OUTGOING:  # loopback shows everything twice
                with suppress(struct.error):
                    take(packet, port, counters)
        missed = struct.unpack("=II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    return {"missed": missed, "sessions": {f"{number:08x}": came for number, came in counters.items()}}


def take(packet: bytes, port: int, counters: dict[int, list[int]]) -> None:
    """Add the counter of an IPv4 packet, if it is a sealed datagram for the port."""
    header = 4 * (packet[0] & 15)
    if packet[9] != socket.IPPROTO_UDP or struct.unpack_from(">H", packet, header + 2)[0] != port:
        return
    datagram = packet[header + 8 :]
    if len(datagram) > SEAL_BYTES and datagram[0] == MAGIC and datagram[2] in {Kind.SYMBOL, Kind.MESSAGE}:
        session, counter = struct.unpack_from(">IQ", datagram, 4)
        counters[session].append(counter)


if __name__ == "__main__":
    print(json.dumps(watch(sys.argv[1], int(sys.argv[2]))))
