"""Who may see the page: on loopback, browsers that show this page itself; elsewhere, only those with the token."""

from __future__ import annotations

import base64
import contextlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders, QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradfec_web.access import LOOPBACK_NAMES

HEADERS = {
    # The browser loads nothing from elsewhere, whatever the page contains. The framework needs eval.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """An ASGI application in front of another; everybody else gets an empty 403."""

    def __init__(self, inner: ASGIApp, host: str, port: int, token: str | None) -> None:
        """Guard `inner`; without a token, it answers only to its own host names."""
        self._inner, self._token = inner, token
        self._names = LOOPBACK_NAMES | {host}
        self._cookie = f"gradfec_page_{port}"  # a browser shares cookies between all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or websocket on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._inner(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        given = QueryParams(scope["query_string"]).get("token")
        if not self._is_own(connection):
            await _refuse(scope, send)
        elif self._token is None or self._knows(connection.cookies.get(self._cookie)) or self._knows(_sent(connection)):
            await self._inner(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and self._knows(given):
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            await _answer(
                send, 303, {"Location": "/", "Set-Cookie": cookie, **HEADERS}
            )  # removes the token from the address bar
        else:
            await _refuse(scope, send)

    def _is_own(self, connection: HTTPConnection) -> bool:
        """Refuse scripts of other sites, and foreign names for this host (DNS rebinding)."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return False
        # With a token, another name is harmless: the browser has no cookie for it.
        return self._token is not None or _name(host) in self._names

    def _knows(self, token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token.encode(), (self._token or "").encode())


def _sent(connection: HTTPConnection) -> str | None:
    """Return the token that a program sends, which has no use for a cookie (RFC 6750, 2.1).

    It may also be the password of a URL, for programs that can send nothing else (RFC 7617, 2).
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(token.strip(), validate=True).decode().partition(":")[2]
    return token.strip() if scheme.lower() == "bearer" else None


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_with


async def _answer(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in {**headers, "Content-Length": "0"}.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body"})


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before the accept, this sends 403
    else:
        await _answer(send, 403, {})
