"""The cloud's counts and states at one moment, for its metrics, its page and its last lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradfec_cloud.workers.pool import Crew

Totals = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Snapshot:
    """All counts and states at one moment."""

    datagrams: Mapping[str, int]  # received, by fate
    kernel_drops: int
    datagrams_sent: int
    send_failures: int
    tensors: Mapping[str, int]  # by fate, and `opened`
    packets: Mapping[str, int]  # of answered tensors, by the names of the results files
    tensor_datagrams: Mapping[str, int]  # likewise
    leases: Mapping[str, int]  # by ending, and `opened`, `open` and `ignored`
    crew: Crew
    fills_given_up: Mapping[str, int]  # tensors, by the reason
    limits: Mapping[str, int]  # how often each limit was reached, by its name
    sessions: int
    open_tensors: int
    held_bytes: int
    unacknowledged: int
    receive_buffer_bytes: int
    keys: int
    insecure: bool
    not_ready: str  # why no edge can come in now, or nothing
    outward: Mapping[str, Mapping[str, int]]  # answers of each sink, by fate, and `waiting`
    infer: Mapping[str, int]  # inference requests, by outcome

    def totals(self) -> Totals:
        """Return what has been counted, by kind of thing and name."""
        return {
            "tensors": dict(self.tensors),
            "packets": dict(self.packets),
            "datagrams": dict(self.tensor_datagrams),
            "datagrams_received": {fate: n for fate, n in self.datagrams.items() if n},
            "limits_reached": dict(self.limits),
            "datagrams_dropped_by_kernel": {"kernel": self.kernel_drops},
            "datagrams_sent": {"control": self.datagrams_sent, "failed": self.send_failures},
            **{f"answers_to_{sink}": dict(counts) for sink, counts in self.outward.items()},
        }
