"""A cloud whose back-end answers at once, for `gradfec bench cloud-scale`: `python -m ...stub_cloud PORT CODEC`.

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
from gradfec_cloud.catalogue import Catalogue
from gradfec_cloud.daemon import CloudOptions, run_cloud
from gradfec_cloud.inference import Inference
from gradfec_cloud.port import Port
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import back_end_name
from gradfec_cloud.workers.station import CutStation
from gradfec_common.codes import ZFEC
from gradfec_common.heads import Answer
from gradfec_common.networks import DEFAULT_CUT, Cut, named_cut
from gradfec_edge.coding import coding_of
from gradfec_host import logs
from gradfec_host.console import Endpoint

DEADLINE_S = 0.5


class StubBackEnd:
    """Returns the same answer for every tensor."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut

    def warm_up(self) -> None:
        """Do nothing."""

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return even probabilities (N, classes)."""
        classes = self.cut.network.output.shape[-1]
        return np.full((len(chi), classes), 1 / classes, np.float32)


def answer(cut: Cut, output: npt.NDArray[np.float32]) -> Answer:
    """Return the answer in a tensor's output, without the classes' names."""
    return cut.network.head.answer(output, ())


def main(port: int, codec: str) -> None:
    """Serve until a signal; then print the totals."""
    cut = coding_of(named_cut(DEFAULT_CUT), None, codec, None, ZFEC.name).cut
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    options = CloudOptions([cut], DEADLINE_S, None, key_source(None, None, insecure=True))
    conceal = Catalogue.of([cut], "zero").concealments[cut]
    workers = partial(LocalWorkers, {back_end_name(cut): partial(CutStation, partial(StubBackEnd, cut), cut, conceal)})
    open_port = Port(Endpoint("127.0.0.1", port))
    log = logs.configure("gradfec-cloud")
    totals = run_cloud(options, open_port, None, lambda deliver: Inference(workers, answer, deliver), log)
    open_port.close()
    print(json.dumps(totals))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
