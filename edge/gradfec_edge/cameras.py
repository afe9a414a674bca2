"""The cameras of one edge process: from the options of each to its parts."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Network
from gradfec_common.session.edge import new_hello
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge.camera import open_source
from gradfec_edge.camera_setup import CameraOptions, CameraSetup, options_of
from gradfec_edge.daemon import Camera
from gradfec_edge.design import Graph
from gradfec_edge.fallback import Fallback, fallback_model
from gradfec_edge.frames import Asker
from gradfec_edge.frigate import open_detector
from gradfec_edge.frontend import FrontEnd, SharedFrontEnd
from gradfec_edge.journal import Journal
from gradfec_edge.options import EdgeOptions
from gradfec_edge.status import CameraStatus, answer_of
from gradfec_edge.story import Record, Story
from gradfec_host.console import Endpoint
from gradfec_host.key_files import edge_key
from gradfec_host.logs import Log
from gradfec_host.models import Model
from gradfec_host.processor import preferred_cipher
from gradfec_host.results import ResultsFile
from gradfec_host.weights import Weights
from gradfec_web.shown import PageOptions

FRAME_FIELDS = ("frame", "source", "tensor", "outcome", "packets", "link", "latency_ms")  # of a record, in the log


class CameraSession:
    """One camera before it runs: its options, what follows from them, and then what is opened for it."""

    def __init__(self, options: CameraOptions, log: Log) -> None:
        """Decide everything, and read the key; GradfecError."""
        self.options, self.log = options, log
        self.setup = CameraSetup(options)
        network = self.setup.coding.cut.network
        self.fallback = fallback_model(options.fallback, network) if options.fallback else None
        self.key = HandshakeKey(edge_key(options.key_file, insecure=options.insecure))
        (cut, rows), *also = self.setup.forms
        self.hello = new_hello(cut, rows, options.name, preferred_cipher(), also)

    def open(self, stack: contextlib.ExitStack, files: dict[str, ResultsFile]) -> None:
        """Open the camera and the results file, which may be another camera's, too; GradfecError, UsageError."""
        options = self.options
        warn = partial(self.log.warning, event="camera")
        network = self.setup.coding.cut.network
        self.source = open_detector(options.camera, network, warn) or open_source(
            options.camera, loop=options.loop, fps=options.fps, warn=warn
        )
        stack.callback(self.source.close)
        if isinstance(self.source, Asker) and (options.fps or options.loop):
            raise UsageError(
                f"--fps and --loop do not go with {options.camera}: the program that asks decides how often"
            )
        if options.results and options.results not in files:
            files[options.results] = stack.enter_context(ResultsFile(options.results))
        self.file = files[options.results] if options.results else None

    def ready(
        self,
        front_ends: Mapping[Graph, FrontEnd],
        fallback: Fallback | None,
        process: Mapping[str, object],
        differing: Mapping[str, object],
    ) -> Camera:
        """Return the parts, joined; `process` are the settings of the whole process.

        `differing` are the camera's settings that are not at their defaults.
        """
        asker = self.source if isinstance(self.source, Asker) else None
        status = CameraStatus(self.options.name)

        def on_story(story: Story) -> None:
            status.ended(story)
            log_frame(self.log, story)

        remarks: Record = {"edge": self.options.name} | ({"insecure": True} if self.key.insecure else {})
        say = partial(self.log.info, event="split")
        pipeline = self.setup.pipeline(front_ends, self.source.interval, say)
        head, reply = self.setup.coding.cut.network.head, asker.reply if asker else None
        journal = Journal(self.file, head, on_story, remarks, on_answer=reply)
        options = self._edge_options(self._settings(process), differing)
        look = self.setup.look_options(front_ends, options.timeout_s)
        return Camera(options, self.source, pipeline, journal, status, self.log, fallback, look)

    def _edge_options(self, settings: Mapping[str, object], differing: Mapping[str, object]) -> EdgeOptions:
        options, source = self.options, self.source
        timeout_s = options.timeout_ms / 1000
        return EdgeOptions(
            cloud=options.cloud,
            hello=self.hello,
            key=self.key,
            in_flight=options.in_flight,
            timeout_s=min(timeout_s, source.within_s) if isinstance(source, Asker) else timeout_s,
            rate_mbit_s=options.rate,
            max_rate_mbit_s=options.max_rate,
            queue_s=options.queue_ms / 1000,
            batched_udp=options.udp == "auto",
            wait_s=math.inf if source.live or options.loop or options.fallback else options.wait,
            thumbnail=options.thumbnail,
            settings=settings,
            differing=differing,
        )

    def _settings(self, process: Mapping[str, object]) -> dict[str, object]:
        """Return what was decided, by name."""
        options = self.options
        return {
            "name": options.name,
            **self.setup.settings(options),
            **({"fallback": options.fallback} if options.fallback else {}),
            **({"insecure": True} if self.key.insecure else {"key_id": self.key.id.hex()}),
            "fps": options.fps,
            "rate": options.rate,
            **({"max_rate": options.max_rate} if options.max_rate else {}),
            "queue_ms": options.queue_ms,
            "in_flight": options.in_flight,
            "timeout_ms": options.timeout_ms,
            "wait": options.wait,
            "results": options.results,
            **process,
        }


def log_frame(log: Log, story: Story) -> None:
    """Log a frame whose story is over, at the level debug."""
    record = story.record()
    told = {name: record[name] for name in FRAME_FIELDS if name in record}
    why = f": {story.why}" if story.why else ""
    log.debug(f"{story.frame.source}: {answer_of(story)} ({story.outcome}){why}", event="frame", **told)


def sessions_of(cameras: Sequence[Mapping[str, Any]], log: Log) -> list[CameraSession]:
    """Check each camera's options and decide what follows from them; UsageError, with its name, if they are wrong."""
    options = [options_of(camera) for camera in cameras]
    check_names(options)
    found = []
    for camera in options:
        with naming(camera.name, many=len(options) > 1):
            found.append(CameraSession(camera, log.of(camera.name) if len(options) > 1 else log))
    return found


def check_names(cameras: Sequence[CameraOptions]) -> None:
    """Raise UsageError if two cameras have the same name."""
    name, count = Counter(camera.name for camera in cameras).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} cameras are called {name!r}: give each [[camera]] a name of its own")


@contextlib.contextmanager
def naming(camera: str, *, many: bool) -> Iterator[None]:
    """Say in an error which of several cameras it is about."""
    try:
        yield
    except GradfecError as error:
        if not many:
            raise
        raise type(error)(f"camera {camera!r}: {error}") from None


def open_all(sessions: Sequence[CameraSession], stack: contextlib.ExitStack) -> None:
    """Open the cameras and the results files."""
    files: dict[str, ResultsFile] = {}
    for session in sessions:
        with naming(session.options.name, many=len(sessions) > 1):
            session.open(stack, files)


def page_of(web: Endpoint, cameras: Sequence[Camera]) -> PageOptions:
    """Return what the live page is to show; each camera tells its own settings."""
    source = cameras[0].source
    name = source.name if source.live else Path(source.name).name or source.name
    title = name if len(cameras) == 1 else f"{len(cameras)} cameras"
    return PageOptions(web, "edge", title, {}, any(camera.options.key.insecure for camera in cameras))


def front_ends(
    sessions: Sequence[CameraSession], runtime: str, weights: Mapping[Network, Weights | Model]
) -> dict[Graph, FrontEnd]:
    """Load each front-end that a camera needs, warmed up; cameras that need the same one share it."""
    loaded: dict[Graph, FrontEnd] = {}
    needed = {design.graph: design for session in sessions for design in session.setup.designs}
    users = Counter(graph for session in sessions for graph in {design.graph for design in session.setup.designs})
    for graph, design in needed.items():
        model = design.load(runtime, weights)
        model.warm_up()
        loaded[graph] = SharedFrontEnd(model) if users[graph] > 1 else model
    return loaded


def fallbacks(sessions: Sequence[CameraSession]) -> list[Fallback | None]:
    """Load each camera's fallback, if it has one; cameras with the same one share it."""
    models = [session.fallback for session in sessions]
    loaded = {model.folder: Fallback(model) for model in {one.folder: one for one in models if one}.values()}
    return [loaded[model.folder] if model else None for model in models]
