"""A camera that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import cv2

from .pictures import PATIENCE_S

BLOCK = object()


class FakeCamera:
    """A camera that follows a script: one list of steps for each time that it is opened.

    A step is a picture, None (a failed read), an exception to raise, a function to call before the next step, or
    BLOCK, which waits for let_go(). A script None is a camera that does not open, a script that is an exception one
    whose driver raises it. After the last script comes [BLOCK].
    """

    def __init__(self, scripts: list[Any], rate: float = 0.0) -> None:
        self.scripts = iter(scripts)
        self.rate = rate
        self.targets: list[int | str] = []
        self.released = 0
        self.stop = threading.Event()
        self.waits: list[float] = []
        self.out_of_scripts = threading.Event()
        self.steps: Iterator[Any] | None = None

    def open(self, target: int | str) -> FakeCamera:
        self.targets.append(target)
        script = next(self.scripts, [BLOCK])
        if isinstance(script, Exception):
            raise script
        self.steps = None if script is None else iter(script)
        return self

    def block(self) -> None:
        self.out_of_scripts.set()
        assert self.stop.wait(PATIENCE_S)

    def let_go(self) -> None:
        self.stop.set()

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def isOpened(self) -> bool:  # noqa: N802
        return self.steps is not None

    def read(self) -> tuple[bool, Any]:
        assert self.steps is not None
        for step in self.steps:
            if step is BLOCK:
                self.block()
            elif callable(step):
                step()
            elif isinstance(step, Exception):
                raise step
            else:
                return step is not None, step
        return False, None

    def get(self, prop: int, /) -> float:
        assert prop == cv2.CAP_PROP_FPS
        return self.rate

    def release(self) -> None:
        self.released += 1
