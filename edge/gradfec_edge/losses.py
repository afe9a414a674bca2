"""What losses are worth: the share of a tensor's importance that was delivered, is missing, or was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.plan import Indices, Plan
from gradfec_common.results import UNKNOWN
from gradfec_common.wire import Report, Result

IMPORTANCE_FATES = ("delivered", "missing", "dropped_by_plan", UNKNOWN)


@dataclass(frozen=True)
class Weights:
    """A tensor that was sent: its plan, its symbols' headers (sent,) in send order, its packets' shares (packets,)."""

    plan: Plan
    headers: npt.NDArray[Any]
    shares: npt.NDArray[np.float32]

    def fates(self, result: Result | None, report: Report | None) -> dict[str, float]:
        """Return the share of the importance that had each fate, 1 in all."""
        dropped = min(float(self.shares[self.plan.dropped].sum()), 1.0)
        fates, kept = {"dropped_by_plan": dropped}, 1 - dropped
        if result is not None and result.missing == 0:
            return fates | {"delivered": kept}
        missing = self.missing(report.arrived) if report else None
        if missing is None or result is None or len(missing) != result.missing:  # not of the moment of the answer
            return fates | {UNKNOWN: kept}
        lost = min(float(self.shares[missing].sum()), kept)
        return fates | {"delivered": kept - lost, "missing": lost}

    def missing(self, untrusted: bytes) -> Indices | None:
        """Return the packets that were sent and are lost for good, by a report's map; None where it is none."""
        if len(untrusted) != -(-len(self.headers) // 8):
            return None
        arrived = np.unpackbits(np.frombuffer(untrusted, np.uint8), count=len(self.headers)).astype(bool)
        block, index = self.headers["block"], self.headers["index"]
        k = np.array([block.k for block in self.plan.blocks])
        decodes = np.bincount(block[arrived], minlength=len(k)) >= k
        gone = ~arrived & (index < k[block]) & ~decodes[block]
        packets = np.concatenate([block.packets for block in self.plan.blocks])  # one block after the other
        lost: Indices = packets[(np.cumsum(k) - k)[block[gone]] + index[gone]]
        return lost
