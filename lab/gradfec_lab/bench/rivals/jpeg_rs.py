"""JPEG with Reed-Solomon parity over UDP: our own daemons, with a fixed plan that suits the nominal link."""

from __future__ import annotations

from gradfec_lab.bench.rivals.jpeg import with_parity
from gradfec_lab.bench.rivals.ours import through_daemons
from gradfec_lab.bench.rivals.rival import Flow, Run


class JpegRs:
    """The picture as JPEG; the edge runs no network, and the cloud all of it."""

    def why_not(self) -> str:
        """See Rival."""
        return ""

    def run(self, run: Run) -> Flow:
        """See Rival."""
        parity = with_parity(run.footage.frames, run.link.nominal)
        options = ["--codec", f"jpeg:{parity.quality}", "--protect", parity.policy]
        return through_daemons(run, options, f"jpeg:{parity.quality} {parity.policy}", ["--split", "input_layer"])
