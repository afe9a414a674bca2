"""A pool of one worker: the thread that starts a batch runs it, so nothing is copied and no other thread is woken."""

from __future__ import annotations

from gradfec_cloud.backend import BackEnd
from gradfec_cloud.workers.pool import Batch, GiveBack, Loaders, Outputs


class LocalWorkers:
    """Runs back-ends in this process, one batch at a time."""

    room = 1

    def __init__(self, loaders: Loaders, give_back: GiveBack) -> None:
        """Load all back-ends and warm them up."""
        self._give_back = give_back
        self._back_ends = {name: _ready(load()) for name, load in loaders.items()}

    def start(self, batch: Batch) -> None:
        """Run a batch and give it back before returning."""
        outputs: Outputs | Exception
        try:
            outputs = self._back_ends[batch.back_end](batch.features)
        except Exception as error:
            outputs = error
        self._give_back(batch.lease, outputs)

    def give_up(self, lease: int) -> None:
        """Do nothing: a network that runs cannot be stopped."""

    def close(self) -> None:
        """Do nothing: there is nothing to stop."""


def _ready(back_end: BackEnd) -> BackEnd:
    back_end.warm_up()
    return back_end
