"""A cloud whose back-end answers at once, for `gradfec bench cloud-scale`: `python -m ...stub_cloud PORT`.

Everything in front of the back-end is the real daemon's. It uses only one core.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import numpy as np
import numpy.typing as npt

from gradfec_cloud.access import key_source
from gradfec_cloud.daemon import CloudOptions, run_cloud
from gradfec_cloud.decoding import Decoder
from gradfec_cloud.inference import Inference
from gradfec_cloud.port import Port
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import back_end_name
from gradfec_common.conceal import make_concealment
from gradfec_common.heads import Answer
from gradfec_common.networks import DEFAULT_CUT, Cut, named_cut
from gradfec_host import logs
from gradfec_host.console import Endpoint

DEADLINE_S = 0.5
CUT = named_cut(DEFAULT_CUT)


class StubBackEnd:
    """Returns the same answer for every tensor."""

    cut = CUT

    def warm_up(self) -> None:
        """Do nothing."""

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return even probabilities (N, classes)."""
        classes = CUT.network.output.shape[-1]
        return np.full((len(chi), classes), 1 / classes, np.float32)


def answer(cut: Cut, output: npt.NDArray[np.float32]) -> Answer:
    """Return the answer in a tensor's output, without the classes' names."""
    return cut.network.head.answer(output, ())


def main(port: int) -> None:
    """Serve until a signal; then print the totals."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    options = CloudOptions([CUT], DEADLINE_S, None, key_source(None, None, insecure=True))
    workers = partial(LocalWorkers, {back_end_name(CUT): StubBackEnd})
    decoder = Decoder({CUT: make_concealment("zero", CUT, {})})
    open_port = Port(Endpoint("127.0.0.1", port))
    log = logs.configure("gradfec-cloud")
    totals = run_cloud(options, open_port, None, lambda deliver: Inference(workers, decoder, answer, deliver), log)
    open_port.close()
    print(json.dumps(totals))


if __name__ == "__main__":
    main(int(sys.argv[1]))
