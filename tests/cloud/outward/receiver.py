"""A receiver of webhooks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SOON_S = 60.0  # a safety net


class Post(NamedTuple):
    """What a receiver got."""

    path: str
    headers: Any
    body: bytes


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[str, queue.Queue[Post]]]:
    """Answer with these statuses, one after the other, and then always with the last one."""
    posts: queue.Queue[Post] = queue.Queue()
    left = [*statuses]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            posts.put(Post(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook/s3cret", posts
    server.shutdown()
    server.server_close()
