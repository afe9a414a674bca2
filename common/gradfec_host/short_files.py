"""Reading files that a user names, none of which is as long as memory."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

MAX_BYTES = 16 << 20
PIPE_S = 10.0


def read_short(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a file's content, or that of a pipe; OSError if it is longer, or if nobody writes to the pipe."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # do not wait for the pipe's writer
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISFIFO(found.st_mode):
            if not select.select([file], [], [], PIPE_S)[0]:
                raise OSError(errno.ETIMEDOUT, f"it is a pipe, and nobody wrote to it for {PIPE_S:g} s", str(path))
            os.set_blocking(descriptor, True)
        content = b"" if found.st_size > max_bytes else file.read(max_bytes + 1)
        if max(found.st_size, len(content)) > max_bytes:
            raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes", str(path))
        return content
