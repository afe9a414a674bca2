"""Where the page is served and who may see it, decided before the slow imports."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from pathlib import Path

from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint
from gradfec_host.short_files import read_short

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
TOKEN_BYTES = 24
TOKEN_LENGTH = range(16, 257)  # of a user's own token
BIND_S = 2.0  # how long a killed predecessor may still hold the port
BIND_AGAIN_S = 0.1


def choose_token(endpoint: Endpoint, token_file: Path | None) -> str | None:
    """Return the token in the file, or a new one there; without a file a new one, or None on loopback."""
    if token_file is not None:
        return _kept_token(token_file)
    return None if is_loopback(endpoint.host) else secrets.token_urlsafe(TOKEN_BYTES)


def _kept_token(path: Path) -> str:
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        token = read_short(path).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII"
        raise GradfecError(f"cannot use {path} for the page's token: {reason}; choose another file") from None
    if len(token) not in TOKEN_LENGTH or not all(c.isalnum() or c in "-_" for c in token):
        raise GradfecError(
            f"{path} does not hold a token for the page: {TOKEN_LENGTH[0]} to {TOKEN_LENGTH[-1]} letters, digits, - "
            "and _; remove the file to get a new token"
        )
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach that address."""
    return host in LOOPBACK_NAMES or host.startswith("127.")


def open_listener(endpoint: Endpoint, what: str = "the live page", option: str = "--web") -> socket.socket:
    """Bind the port; GradfecError, which says `what` cannot be served, if that fails."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bind(family, (str(address[0]), endpoint.port))
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", None) or error
        raise GradfecError(f"cannot serve {what} on {endpoint}: {reason}; choose another {option}") from None


def _bind(family: int, address: tuple[str, int]) -> socket.socket:
    end = time.monotonic() + BIND_S
    while True:
        try:
            return socket.create_server(address, family=family)
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(BIND_AGAIN_S)


def page_url(endpoint: Endpoint, token: str | None) -> str:
    """Return the address to open in a browser."""
    host = endpoint.host if endpoint.host not in {"", "0.0.0.0", "::"} else socket.gethostname()
    return f"http://{Endpoint(host, endpoint.port)}/" + (f"?token={token}" if token else "")
