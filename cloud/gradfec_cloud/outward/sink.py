"""The interface of a sink: what brings news to a system outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from gradfec_cloud.options import Given, Option
from gradfec_cloud.outward.news import News
from gradfec_cloud.outward.outbox import Outbox
from gradfec_host.logs import Log

Labels = AbstractSet[str]  # that answers can have; empty if that is not known


class Sink(Protocol):
    """Brings news to a system outside, however slow or dead that is."""

    def wants(self, news: News) -> bool:
        """Return whether to put news into the outbox. Called on the daemon's own event loop, so it must be quick."""

    async def run(self, outbox: Outbox, log: Log) -> None:
        """Take news out of the outbox, and send them on, until this is cancelled.

        It runs on the sinks' own event loop. If it raises an error, that is logged, and it is run again.
        """


@dataclass(frozen=True)
class SinkKind:
    """A kind of sink, and the options of `gradfec-cloud` with which a user asks for it."""

    name: str  # in metrics
    options: Sequence[Option]
    open: Callable[[Given, Labels], Sink | None]  # None if the options do not ask for it; UsageError if they are wrong
