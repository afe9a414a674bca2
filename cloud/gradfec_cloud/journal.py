"""What the cloud writes down and tells: log lines on edges, a record for each answered tensor, and metrics of both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from gradfec_cloud.driver import OtherVersion, Stranger, UnknownKey
from gradfec_cloud.keyring import Keyring
from gradfec_cloud.metrics import CloudMetrics
from gradfec_cloud.outward.news import Answered, Linked, News
from gradfec_cloud.port import address_text
from gradfec_common.keys import INSECURE_KEY
from gradfec_common.session.events import Event, Finished, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.wire import VERSION
from gradfec_host.logs import Log
from gradfec_host.results import ResultsFile
from gradfec_host.wall_clock import UnixTime, rfc3339, unix_time

SessionEvent = SessionOpened | SessionMoved | SessionEnded
LINES_A_MINUTE = 30  # on one edge's sessions: whoever has a key may open many a second


class Journal:
    """Writes down the events of the core."""

    def __init__(
        self,
        results: ResultsFile | None,
        keyring: Keyring,
        metrics: CloudMetrics,
        log: Log,
        clock: UnixTime = unix_time,
        tell: Callable[[News], None] = lambda news: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write records to `results`, if there is such a file, and `tell` them, too.

        `clock` turns the core's time into that of the day.
        """
        self.packets: Counter[str] = Counter()  # of all answered tensors
        self.datagrams: Counter[str] = Counter()  # likewise
        self._results, self._keyring, self._metrics, self._log = results, keyring, metrics, log
        self._clock, self._tell = clock, tell
        self._sessions: Counter[str] = Counter()  # open ones, by edge
        self._now, self._minute = now, 0
        self._said: Counter[str] = Counter()  # lines on each edge's sessions, in this minute

    @property
    def has_results(self) -> bool:
        """Whether there is a results file."""
        return self._results is not None

    def saw(self, event: Event | Stranger) -> None:
        """Write down an event; GradfecError if its record cannot be written."""
        match event:
            case SessionOpened():
                self._metrics.session_opened(event.edge)
                self._link(event.edge, 1)
                self._say(event, "connected", event="session_opened", address=address_text(event.peer))
            case SessionMoved():
                self._metrics.session_moved()
                address = address_text(event.peer)
                self._say(event, f"has moved to {address}", event="session_moved", address=address)
            case SessionEnded():
                self._metrics.session_ended(event.edge, event.reason)
                self._link(event.edge, -1)
                self._say(event, f"gone ({event.reason})", event="session_ended", reason=event.reason)
            case Finished():
                self._finished(event)
            case OtherVersion():
                address = address_text(event.peer)
                self._log.warning(
                    f"{address} speaks version {event.version} of the protocol and gets no reply: this cloud speaks "
                    f"version {VERSION}; install the same gradfec on both sides",
                    event="other_version",
                    address=address,
                    version=event.version,
                )
            case UnknownKey():
                self._unknown_key(event)

    def _unknown_key(self, event: UnknownKey) -> None:
        address, key_id = address_text(event.peer), event.key_id.hex()
        file = " --key-file DIR/NAME" if self._keyring.of_edges else ""  # DIR of --keys: each edge has its own
        who, cure = (
            f"has the key {key_id}, which this cloud does not have,",
            f"`gradfec keygen{file} --show` here prints the right one, and `gradfec keygen --paste` there takes it",
        )
        if event.key_id == INSECURE_KEY.id:
            who = "runs with --insecure"
        if self._keyring.insecure:
            cure = "this cloud runs with --insecure: give both sides a key"
        self._log.warning(
            f"{address} {who} and gets no reply: {cure}",
            event="unknown_key",
            address=address,
            key_id=key_id,
        )

    def _say(self, of: SessionEvent, words: str, *, event: str, **fields: object) -> None:
        if (minute := int(self._now() / 60)) != self._minute:
            self._minute = minute
            self._said.clear()
        self._said[of.edge] += 1
        if self._said[of.edge] <= LINES_A_MINUTE:
            self._log.info(f"edge {of.edge!r} {words}", event=event, edge=of.edge, session=of.session, **fields)
        elif self._said[of.edge] == LINES_A_MINUTE + 1:
            self._log.warning(
                f"edge {of.edge!r} comes and goes all the time: for the rest of this minute, the log leaves it out",
                event="sessions_left_out",
                edge=of.edge,
            )

    def _link(self, edge: str, more: int) -> None:
        self._sessions[edge] += more
        connected = self._sessions[edge] > 0
        if not connected:
            del self._sessions[edge]
        self._tell(Linked(edge, connected))

    def _finished(self, tensor: Finished) -> None:
        self.packets.update(tensor.packets)
        self.datagrams.update(tensor.datagrams)
        self._metrics.finished(tensor)
        result = tensor.result
        who = {"edge": tensor.edge, "session": tensor.session, "tensor": tensor.tensor}
        line = f"edge {tensor.edge!r}: tensor {tensor.tensor} {result.outcome}"
        self._log.debug(line, event="tensor", **who, outcome=result.outcome, packets=tensor.packets)
        when = {"time": rfc3339(self._clock(tensor.answered_at))}
        remarks = {"insecure": True} if self._keyring.insecure else {}
        record = when | who | record_of(tensor) | remarks
        if tensor.first_tensor is None or result.outcome == "complete":  # otherwise the frame's first answer stands
            self._tell(Answered(tensor.edge, record, tensor.answer.lines()))
        if self._results is not None:
            self._results.write(record)


def record_of(tensor: Finished) -> dict[str, object]:
    """Return what a results file says of a tensor, except when it was answered and where it came from."""
    result = tensor.result
    return {
        **({} if tensor.first_tensor is None else {"first_tensor": tensor.first_tensor}),
        "outcome": result.outcome,
        **tensor.answer.record(),
        "packets": tensor.packets,
        "datagrams": tensor.datagrams,
        "bytes": tensor.received_bytes,
        "latency_ms": round(1000 * tensor.latency_s, 3),
        "stages_ms": result.stages_ms,
    }
