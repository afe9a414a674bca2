"""The page's process: records in on standard input, the page out over HTTP, until the input ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError
from gradfec_web.gate import LOOPBACK_NAMES, Gate
from gradfec_web.history import History
from gradfec_web.page import ICON, add_page
from gradfec_web.view import Record, load

TOKEN_BYTES = 24
TOKEN_LENGTH = range(16, 257)  # of one that is brought along
BIND_S = 2.0  # how long the port may still be held by a predecessor that was killed
BIND_AGAIN_S = 0.1
LAST_REQUESTS_S = 1  # how long a browser may keep the process from ending
MAX_MESSAGE_BYTES = 2**16  # from a browser, which has little to say


class Server(uvicorn.Server):
    """Leaves the signals alone: the process ends with its input."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve(endpoint: Endpoint, token_file: Path | None, records: BinaryIO, say_url: Callable[[str], None]) -> None:
    """Serve the page at `endpoint` until `records` end; GradfecError where that cannot be."""
    token = choose_token(endpoint, token_file)
    listener = listen(endpoint)
    history = History()
    add_page(history)
    app = FastAPI(openapi_url=None)
    ui.run_with(
        app,
        favicon=ICON,
        language="en-GB",
        tailwind=False,
        message_history_length=0,  # who missed something loads the page again
        show_welcome_message=False,
    )
    config = uvicorn.Config(
        Gate(app, endpoint.host, endpoint.port, token),
        log_level="warning",
        access_log=False,  # addresses in it would hold the token
        server_header=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        timeout_graceful_shutdown=LAST_REQUESTS_S,
    )
    server = Server(config)

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.should_exit = True

        def read() -> None:
            for record in read_records(records):
                loop.call_soon_threadsafe(history.take, record)
            loop.call_soon_threadsafe(stop)

        say_url(url(endpoint, token))
        threading.Thread(target=read, daemon=True).start()
        await server.serve([listener])

    asyncio.run(run())


def read_records(lines: BinaryIO) -> Iterator[Record]:
    """Read records until the input ends; a line that is none, such as one that was cut off, is passed over."""
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            yield load(line)


def choose_token(endpoint: Endpoint, token_file: Path | None) -> str | None:
    """Return the token of the file, made where there is none; without a file a new one, on loopback none."""
    if token_file is not None:
        return _kept_token(token_file)
    return None if is_loopback(endpoint.host) else secrets.token_urlsafe(TOKEN_BYTES)


def _kept_token(path: Path) -> str:
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        token = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise GradfecError(f"cannot use {path} for the page's token: {reason}; name another file") from None
    if len(token) not in TOKEN_LENGTH or not all(c.isalnum() or c in "-_" for c in token):
        raise GradfecError(
            f"{path} holds no token for the page: it must be {TOKEN_LENGTH[0]} to {TOKEN_LENGTH[-1]} letters, digits, "
            "- and _; remove the file, and one is made"
        )
    return token


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches that address."""
    return host in LOOPBACK_NAMES or host.startswith("127.")


def listen(endpoint: Endpoint) -> socket.socket:
    """Take the port; GradfecError where it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bind(family, (str(address[0]), endpoint.port))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot serve the live page on {endpoint}: {reason}; choose another address") from None


def _bind(family: int, address: tuple[str, int]) -> socket.socket:
    end = time.monotonic() + BIND_S
    while True:
        try:
            return socket.create_server(address, family=family)
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(BIND_AGAIN_S)


def url(endpoint: Endpoint, token: str | None) -> str:
    """Return what to open in a browser."""
    host = endpoint.host if endpoint.host not in {"", "0.0.0.0", "::"} else socket.gethostname()
    return f"http://{Endpoint(host, endpoint.port)}/" + (f"?token={token}" if token else "")


def main_loop(endpoint: Endpoint, token_file: Path | None) -> None:
    """Serve what standard input tells, and say on standard output where."""
    serve(endpoint, token_file, sys.stdin.buffer, lambda address: print(address, flush=True))
