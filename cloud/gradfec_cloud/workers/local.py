"""A pool of one worker: the thread that starts a batch runs it, so nothing is copied and no other thread is woken."""

from __future__ import annotations

from collections.abc import Callable

from gradfec_cloud.options import Given
from gradfec_cloud.workers.pool import Batch, Crew, GiveBack, Loaders, OpenWorkers, Outputs, Station, WorkersKind
from gradfec_host.logs import Log


class LocalWorkers:
    """Runs back-ends in this process, one batch at a time."""

    room = 1
    crew = Crew(1, 1, elsewhere=False)

    def __init__(self, loaders: Loaders, give_back: GiveBack, more_room: Callable[[], None]) -> None:
        """Load all back-ends and warm them up."""
        self._give_back = give_back
        self._stations = {name: _ready(load()) for name, load in loaders.items()}

    def start(self, batch: Batch) -> None:
        """Run a batch and give it back before returning."""
        outputs: Outputs | Exception
        try:
            outputs = self._stations[batch.back_end](batch.tensors)
        except Exception as error:
            outputs = error
        self._give_back(batch.lease, outputs)

    def give_up(self, lease: int) -> None:
        """Do nothing: a network that runs cannot be stopped."""

    def close(self) -> None:
        """Do nothing: there is nothing to stop."""


def _ready(station: Station) -> Station:
    station.warm_up()
    return station


def open_local(given: Given, log: Log) -> OpenWorkers:
    """Return what the options ask for."""
    return LocalWorkers


LOCAL = WorkersKind("local", (), open_local)
