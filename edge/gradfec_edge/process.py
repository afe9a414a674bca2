"""The edge's process: all cameras on one event loop, with signals, metrics, live page and live status."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import uvloop
from rich.console import RenderableType
from threadpoolctl import threadpool_limits

from gradfec_edge.daemon import Camera, EdgeDaemon, Totals
from gradfec_edge.metrics import EdgeMetrics, Snapshot
from gradfec_edge.status import status_table
from gradfec_host import logs
from gradfec_host.console import Endpoint
from gradfec_host.progress import live_or_told
from gradfec_web.monitor import Monitor, ask, new_registry
from gradfec_web.shown import Overview, PageOptions, shown

# One waits for a frame or encodes it, one encodes a picture for a second look, one has the fallback answer a frame that
# was not sent in time, one looks up the cloud's name, one closes the camera.
THREADS_PER_CAMERA = 5
THREADS_BESIDES = 2


class Ended(NamedTuple):
    """How a camera's session ended: what was counted, and the error that ended it, if any."""

    totals: Totals
    error: BaseException | None


@dataclass(frozen=True)
class ProcessOptions:
    """What the user asked for, for the whole process."""

    runtime: str = ""  # what runs the front-ends, for the user
    metrics: Endpoint | None = None
    page: PageOptions | None = None
    live: bool = True  # show the cameras, where standard error is a terminal


def run_edge(cameras: Sequence[Camera], options: ProcessOptions) -> list[Ended]:
    """Run all cameras until each has ended. One that fails does not end the others."""
    # The matrices of a frame are small: more BLAS threads would wait for each other, and slow down the front-end.
    with threadpool_limits(1, user_api="blas"):
        ended: list[Ended] = uvloop.run(_run(cameras, options))
    return ended


async def _run(cameras: Sequence[Camera], options: ProcessOptions) -> list[Ended]:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS_PER_CAMERA * len(cameras) + THREADS_BESIDES))
    daemons, metrics = _daemons(cameras, options.runtime)

    def stop_all() -> None:
        for daemon in daemons:
            daemon.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_all)
    async with _observed(daemons, metrics, options):
        errors = await asyncio.gather(*(_run_one(daemon, alone=len(daemons) == 1) for daemon in daemons))
    return [Ended(daemon.totals(), error) for daemon, error in zip(daemons, errors, strict=True)]


def _daemons(cameras: Sequence[Camera], runtime: str) -> tuple[list[EdgeDaemon], EdgeMetrics]:
    """Make a daemon for each camera, and the metrics of them all."""
    daemons: list[EdgeDaemon] = []

    def snapshots() -> dict[str, Snapshot]:
        return {daemon.options.hello.name: daemon.snapshot() for daemon in daemons}

    insecure = any(camera.options.key.insecure for camera in cameras)
    ask_all = partial(ask, asyncio.get_running_loop(), snapshots)
    metrics = EdgeMetrics(new_registry("edge", runtime=runtime), ask_all, insecure=insecure)
    daemons += [EdgeDaemon(camera, metrics.camera(camera.options.hello.name)) for camera in cameras]
    return daemons, metrics


async def _run_one(daemon: EdgeDaemon, *, alone: bool) -> Exception | None:
    """Run one camera; return the error that ended it, if any."""
    try:
        await daemon.run()
    except Exception as error:
        if not alone:
            daemon.log.error(f"this camera has ended: {error}", event="camera_ended")
        return error
    return None


@asynccontextmanager
async def _observed(
    daemons: Sequence[EdgeDaemon], metrics: EdgeMetrics, options: ProcessOptions
) -> AsyncIterator[None]:
    """Serve metrics and the live page, and show the live status, if the user asked for them."""

    def table(lines: int) -> RenderableType:
        return status_table([daemon.row() for daemon in daemons], lines)

    async with AsyncExitStack() as stack:
        if options.metrics:
            ready = partial(ask, asyncio.get_running_loop(), lambda: why_not_ready(daemons))
            monitor = Monitor(options.metrics, metrics.registry, ready)
            stack.push_async_callback(asyncio.to_thread, monitor.close)
        if options.page:
            await stack.enter_async_context(_on_page(options.page, daemons))
        say = [daemon.say_how_it_goes for daemon in daemons if not daemon.journal.has_results]
        await stack.enter_async_context(live_or_told(table if options.live else None, say))
        yield


@asynccontextmanager
async def _on_page(options: PageOptions, daemons: Sequence[EdgeDaemon]) -> AsyncIterator[None]:
    """Show all cameras on one page."""

    def totals() -> Totals:
        sums: dict[str, Counter[str]] = {}
        for daemon in daemons:
            for family, counts in daemon.totals().items():
                sums.setdefault(family, Counter()).update(counts)
        return {family: dict(counts) for family, counts in sums.items()}

    say = partial(logs.say, "page")  # in the name of no camera
    async with shown(options, lambda: Overview([daemon.on_page() for daemon in daemons], totals()), say) as tell:
        for daemon in daemons:
            daemon.watch.tell = tell
        yield


def why_not_ready(daemons: Sequence[EdgeDaemon]) -> str:
    """Return why the first camera that is not ready is not; empty if all are ready."""
    for daemon in daemons:
        if reason := daemon.why_not_ready():
            return reason if len(daemons) == 1 else f"camera {daemon.options.hello.name!r}: {reason}"
    return ""
