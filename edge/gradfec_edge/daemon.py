"""The edge daemon: one camera, one cloud.

    camera -> Intake: frame -> front-end -> importance -> packets
           -> Sending: one tensor after the other -> Link: sealed datagrams, paced -> cloud
    cloud  -> Link: events -> Slots: answers and records; LinkHealth: the state of the link;
                              Warnings: a link too slow, or too bad; Watch: the pages

Each of them owns its state. The daemon joins them, passes the link's events on to those that need them, and follows
the phases of its Lifecycle.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from typing import NamedTuple

from gradfec_common.congestion import CongestionControl
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_WARNING
from gradfec_common.protect import AutoProtection
from gradfec_common.session.edge import (
    Answered,
    Closed,
    Connected,
    EdgeLimits,
    EdgeSession,
    Event,
    LinkLost,
    Refused,
    Reported,
)
from gradfec_edge.adaptation import Adaptation
from gradfec_edge.advice import with_cure
from gradfec_edge.fallback import Fallback
from gradfec_edge.frames import Asker, Source
from gradfec_edge.health import LinkHealth
from gradfec_edge.intake import Intake
from gradfec_edge.journal import Journal
from gradfec_edge.lifecycle import Lifecycle, Phase
from gradfec_edge.link import Link
from gradfec_edge.metrics import CameraMetrics, Snapshot
from gradfec_edge.options import EdgeOptions
from gradfec_edge.pacing import LONGEST_SPREAD_S, Pacing
from gradfec_edge.pipeline import Pipeline
from gradfec_edge.second_look import LookOptions, SecondLook
from gradfec_edge.sending import Sending
from gradfec_edge.slots import Slots
from gradfec_edge.status import CameraStatus, Row
from gradfec_edge.story import Story
from gradfec_edge.warnings import Warnings
from gradfec_edge.watch import Watch
from gradfec_host import progress
from gradfec_host.logs import Log, in_words
from gradfec_host.recent import kilobytes
from gradfec_web.view import Edge

FIRST_S = 2.0  # that a file gives a cloud to answer before the fallback does
SHARE_OF_WAIT = 0.1  # over which a frame is spread, of the time in which its answer must be there

Totals = dict[str, dict[str, int]]


class Camera(NamedTuple):
    """The parts of one camera's session with its cloud."""

    options: EdgeOptions
    source: Source
    pipeline: Pipeline
    journal: Journal
    status: CameraStatus
    log: Log
    fallback: Fallback | None = None
    look: LookOptions | None = None


class EdgeDaemon:
    """One camera's session with its cloud, on the running event loop."""

    def __init__(self, camera: Camera, metrics: CameraMetrics) -> None:
        """Join the parts; `run` does the work."""
        options, self.source, self.pipeline, self.journal, self.status, self.log, fallback, look = camera
        self.options = options
        head = self.pipeline.coding.cut.network.head
        limits = EdgeLimits(answer_timeout_s=options.timeout_s)
        session = EdgeSession(options.hello, head, options.key, os.urandom, time.monotonic(), limits)
        self.life = Lifecycle()
        self._asked_to_stop = False
        self.health = LinkHealth(options.cloud, options.key, self.log, metrics, options.wait_s)
        self.link = Link(
            options.cloud, session, self._on_event, on_trouble=self._on_trouble, batched=options.batched_udp
        )
        self.watch = Watch(
            options.hello.name,
            options.cloud,
            session,
            thumbnail=options.thumbnail,
            settings=options.settings,
            fallback=fallback.name if fallback else "",
        )
        self._adaptation = self._make_adaptation()
        at_most_s = self._adaptation.spread_s if self._adaptation else None
        waits_s = self.source.within_s if isinstance(self.source, Asker) else math.inf  # how long the asker waits
        longest_s = min(SHARE_OF_WAIT * waits_s, LONGEST_SPREAD_S)
        self._pacing = Pacing(options.rate_mbit_s, self.source.interval, at_most_s, longest_s)
        self._slots = Slots(options.in_flight, self.journal, metrics, fallback)
        self._warnings = Warnings(
            self.pipeline.coding,
            lambda: self.source.interval,
            options.rate_mbit_s,
            options.max_rate_mbit_s,
            self.log,
            metrics,
        )
        waits = not self.source.live and fallback is None  # a file, for the cloud
        self._intake = Intake(self.source, self.pipeline, self._slots, self.health, self._adaptation, waits=waits)
        self._sending = Sending(
            self.link,
            self.health,
            self._pacing,
            self._slots,
            self.watch,
            self._adaptation,
            live=not waits,
            on_story=self._ended,
        )
        self._look = None
        if look:
            self._look = SecondLook(look, self._sending, self._adaptation, lambda size: self._pacing.spread_s(8 * size))
        self._can_look = True  # as far as was said
        self._first_s = FIRST_S if fallback and not self.source.live else 0.0

    def _make_adaptation(self) -> Adaptation | None:
        """Return what follows the link, if the policy is `auto`."""
        if not isinstance(self.pipeline.coding.policy, AutoProtection):
            return None
        most = math.inf if self.options.max_rate_mbit_s is None else 1e6 / 8 * self.options.max_rate_mbit_s
        control = CongestionControl(time.monotonic(), most, self.options.queue_s)
        return Adaptation(control, lambda: self.source.interval)

    async def run(self) -> None:
        """Send frames until the source ends or `stop` is called; GradfecError if it cannot go on."""
        beside = [self.life.beside(work.run) for work in (self._sending, self._look) if work]
        try:
            await self.life.during(Phase.TAKING, self._take_frames)
            await self.life.during(Phase.FINISHING, self._finish)
        finally:
            for task in beside:
                task.cancel()
            await self._intake.close()
            await self.link.close()
            self._end_looks()
            self.health.end()
            self.watch.ended()
        if self.life.failure:
            raise self.life.failure

    def _end_looks(self) -> None:
        try:
            self._slots.end()
        except GradfecError as error:  # a record cannot be written
            self.life.fail(error)

    def stop(self) -> None:
        """Take no more frames. When called again, or without a cloud, do not wait for answers either."""
        self._asked_to_stop = True
        if self.life.stop() is not Phase.FINISHING:
            return
        if not self.health.connected:
            self.life.stop()
        elif self.link.session.open_tensors:
            waiting = "stopping: waiting for the answers to frames in flight; a second signal stops at once"
            self.log.info(waiting, event="stopping")

    async def _take_frames(self) -> None:
        await self.link.open()
        self._say_how()
        self.health.look()
        if self._first_s:
            await self.health.connects(self._first_s)
        while (outgoing := await self._intake.next()) is not None:
            self._sending.put(outgoing)

    async def _finish(self) -> None:
        begun = -1
        while self._looks_begun != begun:  # the last answers may be unsure
            begun = self._looks_begun
            if self._look:
                await self._look.until_coded()
            await self._sending.until_all_sent()
            await self.link.until_all_closed()

    @property
    def _looks_begun(self) -> int:
        return self._look.begun if self._look else 0

    def _say_how(self) -> None:
        """Log what differs from the defaults, in one line; in a JSON log, and at the level debug, all settings."""
        source, cloud = self.source.name, str(self.options.cloud)
        settings = {**self.options.settings, "udp": "batched" if self.link.batched else "plain"}
        set_by_user = in_words(self.options.differing)
        line = f"{source} -> {cloud}{self._what_it_sends()}" + (f" ({set_by_user})" if set_by_user else "")
        self.log.info(line, event="started", source=source, cloud=cloud, **settings)
        self.log.debug(f"all settings: {in_words(settings)}", event="settings")
        if self.options.key.insecure:
            self.log.warning(INSECURE_WARNING, event="insecure")

    def _what_it_sends(self) -> str:
        """Return the size of a frame, and their rate, if that is known before the first."""
        size, interval_s = self.pipeline.coding.check(), self.source.interval
        if size is None or self.pipeline.others:
            return ""
        rate = f", {8 * size / 1000 / interval_s:.0f} kbit/s at {1 / interval_s:.3g} frames/s" if interval_s else ""
        return f", {kilobytes(size)} a frame{rate}"

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Refused):
            event = with_cure(event, self.pipeline.coding.cut.network)
        self.watch.saw(event)
        try:
            match event:
                case Connected() | LinkLost() | Refused():
                    self.health.saw(event)
                case Answered():
                    self._answered(event)
                case Reported():
                    if self._adaptation:
                        self._adaptation.reported(event.report, time.monotonic())
                case Closed():
                    self._closed(event)
        except GradfecError as error:  # the cloud refuses this edge for good, or a record cannot be written
            self.life.fail(error)
        if isinstance(event, LinkLost) and self._asked_to_stop:
            self.life.stop()
        if isinstance(event, Connected):
            self.pipeline.allow(event.forms)
            if self._look:
                self._look.connected(event.forms, event.deadline_s)
                self._say_whether_it_looks(self._look)
            if self._adaptation:
                self._adaptation.connected(event.deadline_s, time.monotonic())
            self._check_rate(event.deadline_s)

    def _say_whether_it_looks(self, look: SecondLook) -> None:
        if look.is_possible == self._can_look:
            return
        self._can_look = look.is_possible
        if not look.is_possible:
            served = f"{self.pipeline.coding.split},{look.place}"
            self.log.warning(
                f"no answer gets a second look: this cloud takes no pictures; start it with --split {served}, or use "
                "--second-look 0 here",
                event="no_second_looks",
            )

    def _answered(self, event: Answered) -> None:
        story = self._slots.on_its_way(event.tensor)
        unsure = self._look is not None and self._look.judge(story, event.result, event.answer)
        self._slots.answered(event, unsure=unsure)

    def _closed(self, event: Closed) -> None:
        if self._adaptation:
            self._adaptation.closed(event)
        if self._look:
            self._look.closed(self._slots.on_its_way(event.tensor), event.sent)
        if story := self._slots.closed(event):
            self._ended(story)

    def _ended(self, story: Story) -> None:
        """Judge and show a frame that was sent and is over."""
        assert story.as_sent, "it was sent"  # noqa: S101
        self._warnings.ended(story, time.monotonic())
        self.watch.frame_ended(story.as_sent.tensor, story, self._warnings.texts)

    def _on_trouble(self, trouble: str) -> None:
        """Note why datagrams do not reach the cloud; "" if that is not known."""
        self.health.found(trouble)
        self.watch.found(self.health.trouble)

    def _check_rate(self, deadline_s: float) -> None:
        frame_bytes = self.pipeline.coding.check()
        if frame_bytes is not None and (warning := self._pacing.too_slow(8 * frame_bytes, deadline_s)):
            self.log.warning(warning, event="slow_rate")

    def totals(self) -> Totals:
        """Return all counts, for the lines at the end."""
        return {
            "frames": {**self.journal.outcomes, "skipped": self.source.skipped},
            **({"replies": replies} if (replies := self._replies()) is not None else {}),
            **({"second_looks": dict(self.journal.second_looks)} if self._look else {}),
            "packets": dict(self.journal.packets),
            "datagrams": dict(self.journal.datagrams),
            "datagrams_sent": dict(self.link.sent),
            "bytes_sent": dict(self.link.sent_bytes),
            "datagrams_received": dict(self.link.received),
        }

    def _replies(self) -> dict[str, int] | None:
        return dict(self.source.replies) if isinstance(self.source, Asker) else None

    def snapshot(self) -> Snapshot:
        """Return the present counts and states."""
        now = time.monotonic()
        return Snapshot(
            connected=self.health.connected,
            delivering=self._intake.delivering(now),
            frame_age_s=self._intake.frame_age_s(now),
            frames_skipped=self.source.skipped,
            open_tensors=self.link.session.open_tensors,
            datagrams_sent=dict(self.link.sent),
            datagrams_received=dict(self.link.received),
            bytes_sent=dict(self.link.sent_bytes),
            link=self._adaptation.known() if self._adaptation and self.health.connected else {},
            replies=self._replies(),
        )

    def row(self) -> Row:
        """Return what the live status shows of this camera. It is called in the live status's thread."""
        return Row(self.status, self.health.state, self._warnings.texts)

    def on_page(self) -> Edge:
        """Return what the page shows of this camera."""
        edge = self.watch.edge
        return replace(edge, said=self.source.trouble) if edge.connected else edge

    def say_how_it_goes(self) -> None:
        """Log the last minute."""
        counts, why_not = self.status.progress.told(), self.why_not_ready()
        line = progress.in_words(counts) + (f"; {why_not}" if why_not else "")
        self.log.info(line, event="progress", **counts)

    def why_not_ready(self) -> str:
        """Return why frames get no answers now; empty if they do."""
        if self.life.phase is not Phase.TAKING:
            return "it is leaving"
        if why_not := self.health.why_not:
            return why_not
        if self._intake.delivering(time.monotonic()):
            return ""
        return self.source.trouble or f"no frame from {self.source.name}"
