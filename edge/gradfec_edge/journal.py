"""What became of each frame: one record a frame, in the results file and in the totals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gradfec_common.plan import Plan
from gradfec_common.results import ResultsFile
from gradfec_common.session.edge import Answered, Closed
from gradfec_edge.frames import Frame

Record = dict[str, object]


@dataclass
class _Sent:
    """A frame on its way."""

    frame: Frame
    plan: Plan
    stages_ms: dict[str, float]
    latency_ms: float = 0.0


class Journal:
    """Keeps the frames in flight and writes each one's record once its story is over."""

    def __init__(
        self, results: ResultsFile | None, on_record: Callable[[Record], None], remarks: Record | None = None
    ) -> None:
        """Write to `results`, if any, and show each record to `on_record`; `remarks` are in all of them."""
        self._remarks = remarks or {}
        self.outcomes: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self._results = results
        self._on_record = on_record
        self._sent: dict[int, _Sent] = {}

    def sent(self, tensor: int, frame: Frame, plan: Plan, stages_ms: dict[str, float]) -> None:
        """Take note that a frame is being sent as `tensor`."""
        self._sent[tensor] = _Sent(frame, plan, stages_ms)

    def answered(self, event: Answered) -> None:
        """Take note of the moment at which the answer came."""
        sent = self._sent[event.tensor]
        sent.latency_ms = 1000 * (time.monotonic() - sent.frame.captured_at)

    def closed(self, event: Closed) -> Record:
        """Write and return the record of a frame: its answer, its packets, its times; what is not known is null."""
        sent = self._sent.pop(event.tensor)
        result, report, plan = event.result, event.report, sent.plan
        packets: dict[str, int | None] = {
            "total": plan.total,
            "dropped_by_plan": len(plan.dropped),
            "parity": plan.parity,
            "sent": event.sent,
            "received": report.received if report else None,
            "lost": event.sent - report.received if report else None,
            "recovered": result.recovered if result else None,
            "missing": result.missing if result else None,
        }
        record: Record = {"frame": sent.frame.number, "source": sent.frame.source, "tensor": event.tensor}
        if result is None:
            record |= {"outcome": "timeout", "top5": [], "packets": packets, "latency_ms": None}
        else:
            top5 = [{"class_index": c, "label": label, "score": score} for c, label, score in result.top5]
            record |= {"outcome": result.outcome, "top5": top5, "packets": packets}
            record |= {"latency_ms": round(sent.latency_ms, 3)}
        record["stages_ms"] = sent.stages_ms | (result.stages_ms if result else {})
        self._write(record, packets)
        return record

    def unsent(self, frame: Frame) -> None:
        """Write the record of a frame that was never sent, because the cloud was away."""
        nothing: dict[str, int | None] = dict.fromkeys(("total", "dropped_by_plan", "parity", "sent"), 0)
        nothing |= dict.fromkeys(("received", "lost", "recovered", "missing"), None)
        record: Record = {"frame": frame.number, "source": frame.source, "tensor": None, "outcome": "timeout"}
        self._write(record | {"top5": [], "packets": nothing, "latency_ms": None, "stages_ms": {}}, nothing)

    def _write(self, record: Record, packets: dict[str, int | None]) -> None:
        record |= self._remarks
        if self._results:
            self._results.write(record)
        self.outcomes[str(record["outcome"])] += 1
        self.packets.update({name: count or 0 for name, count in packets.items()})
        self._on_record(record)
