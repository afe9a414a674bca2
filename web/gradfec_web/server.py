"""The page's process: records in, the page out over HTTP, until the records end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import BinaryIO

import uvicorn
from nicegui import core, ui

from gradfec_host.console import Endpoint
from gradfec_web.api import Answers, new_app
from gradfec_web.connections import Connection
from gradfec_web.gate import Gate
from gradfec_web.history import History
from gradfec_web.http_server import Server
from gradfec_web.page import ICON, add_page
from gradfec_web.view import Answer, Record, load

RECONNECT_S = 15.0  # how long a browser may be away or busy, and then continue where it was
LAST_REQUESTS_S = 1  # how long open requests may delay the end
MOST_CONNECTIONS = 256
MAX_MESSAGE_BYTES = 2**16  # from a browser, which sends little


def serve(
    endpoint: Endpoint, listener: socket.socket, token: str | None, lines: BinaryIO, *, api: bool = False
) -> None:
    """Serve the page on `listener`, bound to `endpoint`, until the records in `lines` end; with `api`, that, too."""
    history, answers = History(), Answers() if api else None
    add_page(history)
    app = new_app(history, answers)
    ui.run_with(
        app,
        favicon=ICON,
        language="en-GB",
        tailwind=False,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    core.app.config.quasar_config["loadingBar"]["skipHijack"] = True  # no loading bar on top of the page
    config = uvicorn.Config(
        Gate(app, endpoint.host, endpoint.port, token),
        http=Connection,
        log_level="warning",
        access_log=False,  # its addresses would contain the token
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=LAST_REQUESTS_S,
    )
    asyncio.run(serve_until_the_end(Server(config), listener, lines, history, answers))


async def serve_until_the_end(
    server: Server, listener: socket.socket, lines: BinaryIO, history: History, answers: Answers | None
) -> None:
    """Serve on `listener`, and hand each record to who keeps it, until the records in `lines` end."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    def take(record: Record) -> None:
        if not isinstance(record, Answer):
            history.take(record)
        elif answers is not None:
            answers.take(record)

    def read() -> None:
        for record in read_records(lines):
            loop.call_soon_threadsafe(take, record)
        loop.call_soon_threadsafe(stop)

    threading.Thread(target=read, daemon=True).start()
    await server.serve([listener])


def read_records(lines: BinaryIO) -> Iterator[Record]:
    """Read records until the input ends; skip lines that are not records, such as truncated ones."""
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            yield load(_printable(line) if b"\\ud" in line else line)


def _printable(line: bytes) -> bytes:
    """Replace lone surrogates, as in file names that are not UTF-8, by ?; no browser accepts them."""
    return json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace")
