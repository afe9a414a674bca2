"""The page's process, from the daemon's side: the daemon sends it records, and never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import cast

from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint
from gradfec_host.extras import need
from gradfec_web.view import Record, dump

MAX_WAITING_BYTES = 2**20  # records that the page's process has not read yet; more are dropped
# Never import modules from the folder that the daemon runs in; since Python 3.11, PYTHONSAFEPATH says so too.
HERE = "import sys; sys.path[:] = filter(None, sys.path); import runpy; runpy.run_module({!r}, run_name='__main__')"
START = ["-c", HERE.format("gradfec_web")]
CLOSING_S = 5.0
LAST_WORDS_BYTES = 4096


class Page:
    """A live page in its own process; it costs the daemon only the records that it sends."""

    def __init__(self, process: Process, url: str, say: Callable[[str], None]) -> None:
        """Use `start` instead."""
        self.url = url  # with the token, if there is one: only for the user
        self.dropped = 0  # records that the process did not read in time
        self._process, self._say = process, say
        self._pipe = cast(StreamWriter, process.stdin)
        self._closing = False
        self._watch = asyncio.create_task(self._watch_over())

    @classmethod
    async def start(
        cls, endpoint: Endpoint, say: Callable[[str], None], token_file: Path | None = None, *, api: bool = False
    ) -> Page:
        """Serve a page at `endpoint`, with `api` the API, too; GradfecError if that fails. `say` takes one line.

        Addresses other than loopback need a token, from `token_file` or a new one; `url` contains it.
        """
        need("nicegui")
        options = ["--listen", str(endpoint), *(["--token-file", str(token_file)] if token_file else [])]
        options += ["--api"] * api
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *START,
            *options,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
        )
        stdout, stderr = cast(StreamReader, process.stdout), cast(StreamReader, process.stderr)
        url = (await stdout.readline()).decode().strip()
        if not url:
            words = (await stderr.read()).decode(errors="replace").strip().splitlines()
            await process.wait()
            raise GradfecError(words[-1].removeprefix("error: ") if words else "the live page did not start")
        return cls(process, url, say)

    def tell(self, record: Record) -> bool:
        """Send a record to the page, or drop it; return whether it was sent. Call this on the page's event loop."""
        if self._pipe.is_closing() or self._process.returncode is not None:
            return False
        if self._pipe.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self.dropped += 1
            return False
        self._pipe.write(dump(record))
        return True

    async def close(self) -> None:
        """Stop the page's process."""
        self._closing = True
        self._pipe.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), CLOSING_S)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._watch

    async def _watch_over(self) -> None:
        """Read the process's standard error, and report if it ends before it is closed."""
        stderr, last = cast(StreamReader, self._process.stderr), b""
        while words := await stderr.read(LAST_WORDS_BYTES):
            last = (last + words)[-LAST_WORDS_BYTES:]
        code = await self._process.wait()
        if not self._closing:
            lines = last.decode(errors="replace").strip().splitlines()
            self._say(
                f"the live page has ended ({lines[-1] if lines else f'exit code {code}'}); the daemon goes on "
                "without it"
            )
