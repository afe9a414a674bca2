"""A server whose callers say nothing, or say it without end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from gradfec_web import connections
from gradfec_web.connections import Connection
from gradfec_web.server import Server

MOST = 4
SOON_S = 10.0
REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request with its body, and take every websocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, http=Connection, limit_concurrency=MOST, lifespan="off", log_config=None, timeout_keep_alive=600
    )
    server = Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(SOON_S)


def connected(port: int, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), SOON_S)
    made.sendall(said)
    return made


def until_closed(connection: socket.socket) -> bytes:
    """Return what comes until the server closes a connection; TimeoutError if it does not."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1000):
            found += part
    return found


def test_those_who_say_nothing_keep_nobody_out(port: int) -> None:
    silent = [connected(port) for _ in range(3 * MOST)]
    asking = connected(port, REQUEST + b"ok")
    assert asking.recv(1000).startswith(b"HTTP/1.1 200")
    for one in silent[: 2 * MOST]:
        assert until_closed(one) == b""


def test_who_has_asked_is_not_sent_away_for_others(port: int) -> None:
    asking = connected(port, REQUEST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert asking.recv(1000).startswith(b"HTTP/1.1 100")
    for _ in range(3 * MOST):
        connected(port)
    asking.sendall(b"ok")
    assert asking.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nX: ", REQUEST + b"ok", REQUEST + b"okGET / H"])
def test_a_connection_without_a_request_is_closed_in_time(
    port: int, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ASK_WITHIN_S", 0.2)
    waiting = connected(port, said)
    assert until_closed(waiting).startswith(b"HTTP/1.1 200" if said.startswith(REQUEST) else b"")


@pytest.mark.parametrize("said", [REQUEST, UPGRADE])
def test_a_request_and_a_websocket_may_take_longer(port: int, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ASK_WITHIN_S", 0.2)
    waiting = connected(port, said)
    if said is UPGRADE:
        assert waiting.recv(1000).startswith(b"HTTP/1.1 101")
    waiting.settimeout(0.6)
    with pytest.raises(TimeoutError):
        waiting.recv(1000)


def test_headers_without_end_are_not_read(port: int) -> None:
    endless = connected(port, b"GET / HTTP/1.1\r\nHost: here\r\n")
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            endless.sendall(b"X: " + b"x" * 60_000 + b"\r\n")
