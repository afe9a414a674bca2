"""Attackers at a cloud's real port, each a process: `python -m tests.soak.attackers KIND --port P ...`.

Each prints what it sent and, which is the point, how many bytes came back to it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import uvloop

from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, NoProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.session.edge import EdgeSession, Event, new_hello
from gradfec_common.session.handshake import HELLO_BYTES, HandshakeKey
from gradfec_common.transmit import encode_tensor, room_for
from gradfec_common.wire import MAGIC, VERSION, Kind
from gradfec_edge.condition import Condition
from gradfec_edge.link import Link
from gradfec_host.console import Endpoint
from gradfec_host.key_files import find_key
from gradfec_host.processor import preferred_cipher

TICK_S = 0.01
DIFFERENT = 10_000  # datagrams that an attacker sends over and over: making them must not slow it down
NICENESS = 10  # attackers have machines of their own: here they must not take the time of the edges
ATTACKERS = ("garbage", "forged-hellos", "replay", "flood")


@click.command()
@click.argument("kind", type=click.Choice(ATTACKERS))
@click.option("--port", type=int, required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--rate", type=float, default=20_000, help="Datagrams a second.")
@click.option(
    "--captured", type=click.Path(path_type=Path), help="Datagrams of somebody else, as `Wiretap` wrote them."
)
def main(kind: str, port: int, seconds: float, rate: float, captured: Path | None) -> None:
    """Attack for so many seconds, then print what came of it as one JSON object."""
    os.nice(NICENESS)
    if kind == "flood":
        said = uvloop.run(flood(Endpoint("127.0.0.1", port), seconds, rate))
    else:
        stolen = read_captured(captured) if captured else []
        make = {"garbage": garbage, "forged-hellos": lambda: forged_hellos(stolen), "replay": lambda: replay(stolen)}
        said = pour(make[kind](), port, seconds, rate)
    click.echo(json.dumps(said))


def pour(datagrams: Iterator[bytes], port: int, seconds: float, rate: float) -> dict[str, int]:
    """Send datagrams at a rate; count what comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect(("127.0.0.1", port))
        opened.setblocking(False)
        sent = answered = 0
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            while sent < elapsed * rate:
                try:
                    opened.send(next(datagrams))
                except OSError:
                    break
                sent += 1
            answered += drained(opened)
            time.sleep(TICK_S)
        time.sleep(1)
        return {"sent": sent, "bytes_back": answered + drained(opened)}


def drained(opened: socket.socket) -> int:
    """Return how many bytes wait in a socket, and take them."""
    count = 0
    while True:
        try:
            count += len(opened.recv(2048))
        except OSError:  # noqa: PERF203 - that is how a socket says that there is no more
            return count


def garbage() -> Iterator[bytes]:
    """Yield random bytes of any length, half of them behind a header that looks right."""
    rng = random.Random(1)
    some = [rng.randbytes(rng.randint(0, 1400)) for _ in range(DIFFERENT)]
    for n in range(0, DIFFERENT, 2):
        some[n] = bytes([MAGIC, VERSION, rng.choice([*Kind]), 0]) + rng.randbytes(12) + some[n][:1184]
    return itertools.cycle(some)


def forged_hellos(stolen: list[bytes]) -> Iterator[bytes]:
    """Yield hellos with the id of a real key, which anybody can read, and random bytes after it."""
    rng = random.Random(2)
    head = next(datagram for datagram in stolen if datagram[2] == Kind.HELLO)[:16]
    return itertools.cycle([head + rng.randbytes(HELLO_BYTES - len(head)) for _ in range(DIFFERENT)])


def replay(stolen: list[bytes]) -> Iterator[bytes]:
    """Yield somebody else's datagrams again and again: hello, symbols, messages."""
    return itertools.cycle(stolen)


async def flood(cloud: Endpoint, seconds: float, rate: float) -> dict[str, int]:
    """Send tensors with a valid key at a rate, and wait for no answer."""
    cut, quantiser = named_cut(DEFAULT_CUT), QUANTISERS["uniform8"]
    grid = PacketGrid(cut.shape, DEFAULT_ROWS)
    coded = quantiser.encode(np.random.default_rng(0).normal(size=cut.shape).astype(np.float32), grid)
    room = room_for(quantiser.parameter_bytes, packets_a_symbol=1)
    plan = NoProtection().plan(np.zeros(grid.count, np.float32), coded.packets.sizes, UNKNOWN_LINK, room)
    encoded = encode_tensor(coded, quantiser, plan)
    changed = Condition()

    def on_event(event: Event) -> None:
        changed.notify()

    hello = new_hello(cut, grid.rows, "flooder", preferred_cipher())
    link = Link(
        cloud, EdgeSession(hello, cut.network.head, HandshakeKey(find_key()), os.urandom, time.monotonic()), on_event
    )

    def may_send() -> bool:
        return link.session.connected and link.session.open_tensors < link.session.limits.tensors_in_flight

    await link.open()
    await changed.wait_for(may_send)
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0 and await changed.wait_for(may_send, left_s):
        if (tensor := link.open_tensor(encoded, grid.count / rate)) is not None:
            await link.send(tensor)
    await link.close()
    return {"sent": link.sent["symbol"] + link.sent["control"], "bytes_back": 0}  # what it gets, it has a right to


def read_captured(path: Path) -> list[bytes]:
    """Read what `Wiretap.save` wrote: each datagram after its length."""
    raw, datagrams = path.read_bytes(), []
    while raw:
        length = int.from_bytes(raw[:2], "big")
        datagrams.append(raw[2 : 2 + length])
        raw = raw[2 + length :]
    return datagrams


if __name__ == "__main__":
    main()
