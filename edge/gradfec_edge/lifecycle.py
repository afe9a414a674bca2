"""The phases of one camera's session, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


class Phase(Enum):
    """What a daemon is doing.

    A phase ends when its work is done, or when the user asks the daemon to stop. Both lead to the next phase. So the
    first signal ends TAKING, and the second one ends FINISHING. An error leads to LEAVING from any phase. A phase
    that is over never comes back.
    """

    TAKING = "taking"  # takes frames and sends them
    FINISHING = "finishing"  # takes no more frames; sends those it has, and waits for their answers
    LEAVING = "leaving"  # waits for nothing but the goodbye


NEXT = {Phase.TAKING: Phase.FINISHING, Phase.FINISHING: Phase.LEAVING, Phase.LEAVING: Phase.LEAVING}


class Lifecycle:
    """Holds the phase, runs its work, and keeps the first error."""

    def __init__(self) -> None:
        """Begin with TAKING."""
        self.phase = Phase.TAKING
        self.failure: BaseException | None = None
        self._work: asyncio.Task[None] | None = None  # of this phase

    async def during(self, phase: Phase, work: Work) -> None:
        """Do the work of `phase` until it is done or the phase ends; skip it if the phase has ended already."""
        if self.phase is not phase:
            return
        self._work = asyncio.create_task(work())
        self._work.add_done_callback(self._note_failure)
        try:
            await asyncio.wait([self._work])
        finally:
            self._work.cancel()
        if self.phase is phase:
            self._enter(NEXT[phase])

    def beside(self, work: Work) -> asyncio.Task[None]:
        """Start work that goes on through all phases. If it fails, they end."""
        task = asyncio.create_task(work())
        task.add_done_callback(self._note_failure)
        return task

    def stop(self) -> Phase:
        """End the phase at the user's request; return the next one."""
        self._enter(NEXT[self.phase])
        return self.phase

    def fail(self, error: BaseException) -> None:
        """End all phases with an error. Only the first error counts."""
        self.failure = self.failure or error
        self._enter(Phase.LEAVING)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if self._work:
            self._work.cancel()

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
