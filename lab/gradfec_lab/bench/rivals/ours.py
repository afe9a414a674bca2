"""gradfec itself: the real edge and the real cloud, with the options of each arm."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.experiment import Record, top1
from gradfec_lab.bench.rivals.footage import FPS
from gradfec_lab.bench.rivals.rival import Answer, Flow, Run, injected, udp_bytes

EDGE = (sys.executable, "-m", "gradfec_lab.bench.rivals.played_edge")


@dataclass(frozen=True)
class Ours:
    """The daemons with fixed options; without any, as anybody would start them."""

    options: tuple[str, ...] = ()
    cloud_options: tuple[str, ...] = ()

    def why_not(self) -> str:
        """See Rival."""
        return ""

    def run(self, run: Run) -> Flow:
        """See Rival."""
        return through_daemons(run, self.options, " ".join(self.options) or "no options", self.cloud_options)


def through_daemons(run: Run, edge_options: Sequence[str], plan: str, cloud_options: Sequence[str] = ()) -> Flow:
    """Send the footage from a new edge to a new cloud."""
    cloud_port = free_port()
    listen = ["--listen", f"127.0.0.1:{cloud_port}", *cloud_options]
    with (
        TemporaryDirectory(prefix="gradfec-rivals-") as folder,
        daemon("gradfec-cloud", *listen, ready="listening on"),
        injected(run, cloud_port) as (relay, port),
    ):
        frames = Path(folder) / "frames.npy"
        np.save(frames, run.footage.frames)
        send = ["--camera", str(frames), "--fps", str(FPS), "--cloud", f"127.0.0.1:{port}", "--results", "-"]
        with daemon("gradfec-edge", *send, *edge_options, program=EDGE) as edge:
            records = [json.loads(line) for line in edge.lines()]
            if edge.process.wait():
                raise edge.failure()
        return Flow(answers_of(records), udp_bytes(relay.totals()), plan)


def answers_of(records: Sequence[Record]) -> dict[int, Answer]:
    """Return the answers in an edge's records by frame; a frame without one is left out."""
    found = {}
    for record in records:
        best = top1(record)
        if best is not None and record["latency_ms"] is not None:
            found[int(record["source"])] = Answer(best, float(record["latency_ms"]))
    return found
