"""A daemon's HTTP server: /metrics for Prometheus, /healthz and /readyz.

A few separate threads serve it, each for a limited time, so that slow or many clients do not disturb the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import PackageNotFoundError, version
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics, make_wsgi_app

from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment  # since Python 3.11

T = TypeVar("T")

PATIENCE_S = 5.0  # how long to wait for the daemon's event loop
LONGEST_S = 10.0  # how long a connection may take
MAX_CONNECTIONS = 16  # at a time; one more is closed at once
PAGES = "/metrics, /healthz and /readyz"
OK, UNAVAILABLE, NOT_FOUND = "200 OK", "503 Service Unavailable", "404 Not Found"

# In seconds, two or three for each power of ten: any time that a stage, or a frame, may take on any machine.
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LATENCY_BUCKETS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)


def new_registry(component: str, **about: str) -> CollectorRegistry:
    """Return a registry with the process's metrics, and `gradfec_build_info` with the labels `about`.

    Counters do not export their creation time, which would be one more series for each.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    info = Info("gradfec_build", "1; the labels say which release runs, and on what.", registry=registry)
    info.info({"component": component, "version": release(), "python": platform.python_version(), **about})
    return registry


def release() -> str:
    """Return the installed version of gradfec."""
    try:
        return version("gradfec")
    except PackageNotFoundError:  # run without installation
        return "unknown"


def ask(loop: asyncio.AbstractEventLoop, question: Callable[[], T]) -> T:
    """Call `question` on the event loop from another thread, and return its answer.

    TimeoutError if the loop does not answer within PATIENCE_S, or has ended.
    """
    answer: Future[T] = Future()

    def on_loop() -> None:
        if answer.set_running_or_notify_cancel():  # somebody still waits
            try:
                answer.set_result(question())
            except Exception as error:
                answer.set_exception(error)

    try:
        loop.call_soon_threadsafe(on_loop)
    except RuntimeError:
        raise TimeoutError("the event loop has ended") from None
    try:
        return answer.result(PATIENCE_S)
    except FutureTimeoutError:  # differs from the built-in one before Python 3.11
        answer.cancel()
        raise TimeoutError(f"the event loop has not answered for {PATIENCE_S:g} s") from None


class Monitor:
    """Metrics and health over HTTP, from threads of their own."""

    def __init__(self, endpoint: Endpoint, registry: CollectorRegistry, why_not_ready: Callable[[], str]) -> None:
        """Start to serve; GradfecError if the port cannot be bound.

        Other threads call `why_not_ready` and the registry's collectors, which raise TimeoutError if the daemon does
        not answer. `why_not_ready` returns one line, or "" if the daemon is ready.
        """
        try:
            self._server = _Server(endpoint)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise GradfecError(f"cannot serve metrics on {endpoint}: {reason}; choose another --metrics") from None
        self._server.set_app(_pages(make_wsgi_app(registry), why_not_ready))
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()

    def close(self) -> None:
        """Stop serving; takes half a second at most."""
        self._server.shutdown()
        self._server.server_close()


def _pages(metrics: WSGIApplication, why_not_ready: Callable[[], str]) -> WSGIApplication:
    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, line = OK, "alive"
        try:
            match environ["PATH_INFO"]:
                case "/metrics":
                    return metrics(environ, start_response)
                case "/healthz":
                    why_not_ready()  # any answer will do
                case "/readyz":
                    why_not = why_not_ready()
                    status, line = (UNAVAILABLE, f"not ready: {why_not}") if why_not else (OK, "ready")
                case _:
                    status, line = NOT_FOUND, f"there are only {PAGES}"
        except TimeoutError as error:
            status, line = UNAVAILABLE, str(error)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{line}\n".encode()]

    return page


class _Handler(WSGIRequestHandler):
    """Does not log requests."""

    timeout = LONGEST_S

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread: at most MAX_CONNECTIONS at a time, each for at most LONGEST_S."""

    daemon_threads = True

    def __init__(self, endpoint: Endpoint) -> None:
        """Bind and listen; OSError or UnicodeError if that fails."""
        self._open: dict[socket.socket, float] = {}  # connection -> when it must be done
        host = endpoint.host or "0.0.0.0"
        self.address_family = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, endpoint.port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would look up the host's name, which can be slow
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._open[request] = time.monotonic() + LONGEST_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off connections that take too long; called twice a second."""
        now = time.monotonic()
        for request, until in list(self._open.items()):
            if until < now:
                with contextlib.suppress(OSError):  # its thread closes it
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""
