"""The priority of threads."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICENESS = 5  # of the back-end's threads, above that of the event loop's thread


def let_network_first() -> None:
    """Give this thread, and the threads that it starts from now on, a lower priority than the event loop's thread.

    The event loop must keep up with a flood of datagrams, because it can tell unwanted ones from the others. If it is
    too slow, the receive buffer overflows, and the kernel drops datagrams of either kind. Does nothing except on Linux:
    elsewhere only whole processes have priorities.
    """
    if sys.platform == "linux":
        this = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that lacks the call
            os.setpriority(os.PRIO_PROCESS, this, os.getpriority(os.PRIO_PROCESS, this) + NICENESS)
