"""The edge's UDP socket: its one address, a kernel without room, and what happens without a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import uvloop

from gradfec_common.wire import Bytes
from gradfec_edge.port import Port
from gradfec_edge.udp import Sender, Sent

SOON_S = 60.0  # a safety net
COUNT = 64
ROWS = np.repeat(np.arange(COUNT, dtype=np.uint8), 100).reshape(COUNT, 100)


class Far:
    """The other end."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(SOON_S)
        self.address = self.socket.getsockname()

    def got(self) -> tuple[bytes, Any]:
        return self.socket.recvfrom(2048)


@pytest.fixture
def far() -> Iterator[Far]:
    other = Far()
    yield other
    other.socket.close()


@pytest.fixture(params=[True, False], ids=["batched", "plain"])
def batched(request: pytest.FixtureRequest) -> bool:
    return request.param


def with_port(work: Callable[[Port], Coroutine[Any, Any, None]], *, batched: bool = True) -> Port:
    """Do the work with a port, close it, and return it for its counts."""

    async def run() -> Port:
        port = Port(lambda: None, batched=batched)
        await work(port)
        port.close()
        return port

    made: Port = uvloop.run(run())
    return made


def test_symbols_go_to_the_address_each_once_and_in_order(far: Far, batched: bool) -> None:
    async def work(port: Port) -> None:
        port.use(socket.AF_INET, far.address)
        assert batched or not port.batched
        await port.send_symbols(ROWS)

    port = with_port(work, batched=batched)
    assert (port.sent, port.sent_bytes) == ({"symbol": COUNT}, {"symbol": ROWS.size})
    assert [far.got()[0] for _ in range(COUNT)] == [row.tobytes() for row in ROWS]


def test_datagrams_from_other_addresses_are_only_counted(far: Far) -> None:
    async def work(port: Port) -> None:
        readable = asyncio.get_running_loop().create_future()
        port._on_readable = lambda: readable.done() or readable.set_result(None)
        port.use(socket.AF_INET, far.address)
        port.send_now(b"hello")
        _, edge = far.got()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"stranger", edge)
        for text in (b"one", b"two"):
            far.socket.sendto(text, edge)
        await asyncio.wait([readable], timeout=SOON_S)
        got: list[bytes] = []
        while len(got) < 2:
            got += port.receive()
            await asyncio.sleep(0.001)
        assert got == [b"one", b"two"]
        assert port.receive() == []

    port = with_port(work)
    assert (port.foreign, port.sent) == (1, {"control": 1})


def test_without_a_socket_datagrams_are_only_counted(far: Far) -> None:
    async def work(port: Port) -> None:
        for _ in range(2):
            port.send_now(b"hello")
            await port.send_symbols(ROWS)
            assert port.receive() == []
            assert (port.address, port.batched) == (None, True)
            port.use(socket.AF_INET, far.address)
            assert port.address == far.address
            port.close()

    assert with_port(work).sent == {"control_failed": 2, "symbol_failed": 2 * COUNT}


def test_an_impossible_address_leaves_the_old_one_in_use(far: Far) -> None:
    async def work(port: Port) -> None:
        port.use(socket.AF_INET, far.address)
        with pytest.raises(OSError):
            port.use(-2, ("nowhere", 9))  # type: ignore[arg-type]
        assert port.address == far.address
        port.send_now(b"still here")

    with_port(work)
    assert far.got()[0] == b"still here"


def test_datagrams_wait_for_room_in_the_kernel_and_leave_once(
    far: Far, batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [False]
    send = Sender.send

    def reluctant(sender: Sender, datagrams: Bytes, address: Any) -> Sent:
        full[0] = not full[0]
        if full[0]:
            raise BlockingIOError
        return send(sender, datagrams[:5], address)

    async def work(port: Port) -> None:
        monkeypatch.setattr(Sender, "send", reluctant)
        port.use(socket.AF_INET, far.address)
        await port.send_symbols(ROWS)

    port = with_port(work, batched=batched)
    assert (port.sent, port.sent_bytes) == ({"symbol": COUNT}, {"symbol": ROWS.size})
    assert [far.got()[0] for _ in range(COUNT)] == [row.tobytes() for row in ROWS]


class Full:
    """An event loop to which no socket ever has room."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.watched = loop, set[int]()

    def add_writer(self, fd: int, ready: Callable[[], None]) -> None:
        self.watched.add(fd)

    def remove_writer(self, fd: int) -> None:
        self.watched.discard(fd)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


@pytest.mark.parametrize("closed", [False, True], ids=["replaced", "closed"])
def test_sending_that_waits_for_room_goes_on_when_the_socket_is_replaced_or_closed(
    closed: bool, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Sender.send
    blocked = [True]

    def once(sender: Sender, datagrams: Bytes, address: Any) -> Sent:
        if blocked:
            blocked.clear()
            raise BlockingIOError
        return send(sender, datagrams, address)

    async def work(port: Port) -> None:
        monkeypatch.setattr(Sender, "send", once)
        full = port._loop = Full(port._loop)  # type: ignore[assignment]
        port.use(socket.AF_INET, ("127.0.0.1", 9))
        waiting = asyncio.ensure_future(port.send_symbols(ROWS))
        await asyncio.sleep(0.001)
        assert full.watched
        if closed:
            port.close()
        else:
            port.use(socket.AF_INET, far.address)
        await asyncio.wait([waiting], timeout=SOON_S)
        assert waiting.result() is None
        assert full.watched == set()

    assert with_port(work).sent == ({"symbol_failed": COUNT} if closed else {"symbol": COUNT})


def test_sending_that_is_cancelled_stops_watching_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(sender: Sender, datagrams: Bytes, address: Any) -> Sent:
        raise BlockingIOError

    async def work(port: Port) -> None:
        monkeypatch.setattr(Sender, "send", never)
        full = port._loop = Full(port._loop)  # type: ignore[assignment]
        port.use(socket.AF_INET, ("127.0.0.1", 9))
        waiting = asyncio.ensure_future(port.send_symbols(ROWS))
        await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert full.watched == set()

    with_port(work)
