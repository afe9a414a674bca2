"""A cloud whose back-end answers at once, for `gradfec bench cloud-scale`: `python -m ...stub_cloud PORT`.

Everything in front of the back-end is the real daemon's. It uses only one core.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import numpy.typing as npt

from gradfec_cloud.access import key_source
from gradfec_cloud.daemon import CloudOptions, run_cloud
from gradfec_cloud.inference import Inference
from gradfec_cloud.labels import top5
from gradfec_cloud.port import Port
from gradfec_common.network import CLASSES, DEFAULT_SPLIT, split_point
from gradfec_host import logs
from gradfec_host.console import Endpoint

DEADLINE_S = 0.5


class StubBackEnd:
    """Returns the same answer for every tensor."""

    def warm_up(self) -> None:
        """Do nothing."""

    def __call__(self, chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return even probabilities (N, 1000)."""
        return np.full((len(chi), CLASSES), 1 / CLASSES, np.float32)


def main(port: int) -> None:
    """Serve until a signal; then print the totals."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    options = CloudOptions(split_point(DEFAULT_SPLIT), "zero", DEADLINE_S, None, key_source(None, None, insecure=True))
    open_port = Port(Endpoint("127.0.0.1", port))
    totals = run_cloud(
        options,
        open_port,
        None,
        lambda deliver: Inference(StubBackEnd(), top5, 0.0, deliver),
        logs.configure("gradfec-cloud"),
    )
    open_port.close()
    print(json.dumps(totals))


if __name__ == "__main__":
    main(int(sys.argv[1]))
