"""The event loop's thread goes before the back-end's threads."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from gradfec_cloud.priority import NICENESS, let_network_first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only whole processes have priorities")
def test_a_thread_and_those_that_it_starts_get_a_lower_priority_and_no_other_does():
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    theirs = []

    def load():
        let_network_first()
        started = threading.Thread(
            target=lambda: theirs.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        started.start()
        started.join()

    loader = threading.Thread(target=load)
    loader.start()
    loader.join()
    assert theirs == [min(mine + NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine
