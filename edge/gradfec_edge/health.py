"""The health of the link: named states, a way to wait for one, and the messages that users read about it."""

from __future__ import annotations

import asyncio
import math
from enum import Enum

from gradfec_common.errors import GradfecError
from gradfec_common.session.edge import Connected, LinkLost, Refused
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge.condition import Condition
from gradfec_edge.metrics import CameraMetrics
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log, printable

PATIENCE_S = 30.0  # how long a cloud may be silent before the log says what to check
BRIEF_S = 5.0  # in which a cloud that was silent may be back without a word in the log: bursts of losses do that
TEMPORARY_REFUSALS = {"leaving", "full"}  # reasons for which the edge keeps trying


class LinkState(Enum):
    """The states of a link. The last event alone decides the state; nothing comes after ENDED."""

    LOOKING = "looking"  # for a cloud that answers
    CONNECTED = "connected"
    REFUSED = "refused"  # for now; the edge keeps trying
    ENDED = "ended"  # the daemon has said goodbye


class LinkHealth:
    """Follows the events of one link."""

    def __init__(
        self, cloud: Endpoint, key: HandshakeKey, log: Log, metrics: CameraMetrics, wait_s: float = math.inf
    ) -> None:
        """Begin with LOOKING. Frames that cannot be skipped wait for the cloud for `wait_s`."""
        self.state = LinkState.LOOKING
        self._refusal = ""  # what the cloud said, in state REFUSED
        self._trouble = ""  # why datagrams do not reach the cloud, if resolver or kernel know
        self._silence = ""  # what to check, after a cloud was silent for long
        self._told = ""  # the last trouble that was logged, until the cloud answers
        self._wait_s = wait_s
        self._cloud, self._key, self._log, self._metrics = cloud, key, log, metrics
        self._changed = Condition()
        self._loop: asyncio.AbstractEventLoop | None = None  # since `look`
        self._silence_timer: asyncio.TimerHandle | None = None
        self._lost_timer: asyncio.TimerHandle | None = None  # while the log has yet to say that the cloud is silent

    @property
    def connected(self) -> bool:
        """Whether the cloud answers."""
        return self.state is LinkState.CONNECTED

    @property
    def why_not(self) -> str:
        """Why the link is not connected; empty if it is."""
        return "" if self.connected else self._refusal or self.trouble or f"not connected to {self._cloud}"

    @property
    def trouble(self) -> str:
        """Why datagrams do not reach the cloud, or, after a long silence, what to check; "" if neither is known."""
        return self._trouble or self._silence

    async def connects(self, within_s: float) -> bool:
        """Wait until the link is connected; return False if it is not in time."""
        return await self._changed.wait_for(lambda: self.connected, None if math.isinf(within_s) else within_s)

    async def until_connected(self) -> None:
        """Wait until the link is connected; GradfecError if it is not in time."""
        if not await self.connects(self._wait_s):
            found = self._refusal or self._trouble
            raise GradfecError(f"{found}; gave up after {self._wait_s:g} s" if found else self._no_answer(self._wait_s))

    def look(self) -> None:
        """Log that the edge looks for the cloud. From now on, if it looks forever, warn of each long silence."""
        within = "" if math.isinf(self._wait_s) else f" for {self._wait_s:g} s"
        self._log.info(f"looking for {self._cloud}{within}", event="looking", cloud=str(self._cloud))
        self._loop = asyncio.get_running_loop()
        self._time_silence()

    def found(self, trouble: str) -> None:
        """Note, while no cloud answers, why datagrams do not reach it; "" if that is not known. Log it once."""
        if self.state in (LinkState.CONNECTED, LinkState.ENDED):
            return
        if trouble and self.state is LinkState.REFUSED:  # what refused it is gone
            self._enter(LinkState.LOOKING)
        if self._trouble and not trouble:
            self._time_silence()
        self._trouble = trouble
        if trouble and trouble != self._told:
            self._say_if_lost()
            self._told = trouble
            self._log.warning(f"{trouble}; trying again", event="unreachable", cloud=str(self._cloud))

    def saw(self, event: Connected | LinkLost | Refused) -> None:
        """Follow an event of the protocol core; GradfecError if trying again is useless."""
        match event:
            case Connected():
                self._on_connected(event)
            case LinkLost():
                self._on_lost(event)
            case Refused():
                self._on_refused(event)

    def end(self) -> None:
        """Enter ENDED."""
        self._enter(LinkState.ENDED)
        self._forget_loss()
        if self._silence_timer:
            self._silence_timer.cancel()

    def _enter(self, state: LinkState, refusal: str = "") -> None:
        self.state, self._refusal, self._silence = state, refusal, ""
        self._changed.notify()

    def _on_connected(self, event: Connected) -> None:
        self._enter(LinkState.CONNECTED)
        self._trouble = self._told = ""
        self._metrics.connected()
        if not event.fresh and self._forget_loss():
            return
        self._say_if_lost()
        line = f"connected to {self._cloud}{'' if event.fresh else ' again'}"
        self._log.info(line, event="connected", cloud=str(self._cloud), fresh=event.fresh)

    def _on_lost(self, event: LinkLost) -> None:
        self._enter(LinkState.LOOKING)
        self._metrics.link_lost(leaving=event.leaving)
        if event.leaving:
            self._say_lost(leaving=True)
        elif self._loop:
            self._lost_timer = self._loop.call_later(BRIEF_S, self._say_if_lost)
        self._time_silence()

    def _say_if_lost(self) -> None:
        """Log that the cloud is silent, if the log has yet to say so."""
        if self._forget_loss():
            self._say_lost(leaving=False)

    def _forget_loss(self) -> bool:
        """Return whether the log has yet to say that the cloud is silent; it will not."""
        timer, self._lost_timer = self._lost_timer, None
        if timer:
            timer.cancel()
        return timer is not None

    def _say_lost(self, *, leaving: bool) -> None:
        line = f"{self._cloud} is {'leaving' if leaving else 'silent'}; looking for it"
        self._log.warning(line, event="link_lost", cloud=str(self._cloud), leaving=leaving)

    def _on_refused(self, event: Refused) -> None:
        self._metrics.refused(event.reason)
        self._say_if_lost()
        if event.reason not in TEMPORARY_REFUSALS:
            raise GradfecError(f"{self._cloud} refuses this edge: {printable(event.detail)}")
        refusal, before = f"{self._cloud} accepts no new edges now: {printable(event.detail)}", self._refusal
        self._enter(LinkState.REFUSED, refusal)
        if refusal != before:  # each hello brings the same refusal
            self._log.warning(f"{refusal}; trying again", event="refused", cloud=str(self._cloud))

    def _time_silence(self) -> None:
        """Warn if the cloud is silent for long from now on, and nobody knows why."""
        if self._silence_timer:
            self._silence_timer.cancel()
        if self._loop and math.isinf(self._wait_s):
            self._silence_timer = self._loop.call_later(PATIENCE_S, self._warn_of_silence)

    def _warn_of_silence(self) -> None:
        if self.state is LinkState.LOOKING and not self._trouble:
            self._silence = self._no_answer()
            self._log.warning(f"{self._no_answer(PATIENCE_S)}; trying again", event="silent", cloud=str(self._cloud))

    def _no_answer(self, for_s: float | None = None) -> str:
        """Say what to check. The cloud may well be there: senders without the key get no reply."""
        since = "" if for_s is None else f" for {for_s:g} s"
        same_key = f"it has this edge's key {self._key.id.hex()} (senders without the key get no reply)"
        return (
            f"no answer from {self._cloud}{since}: check that gradfec-cloud runs there, of the same version as this "
            f"edge, that {'it runs with --insecure, too' if self._key.insecure else same_key}, and that UDP to that "
            "port passes the firewalls on the way"
        )
