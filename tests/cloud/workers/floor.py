"""What it takes Ray alone to carry a frame's bytes to an actor and back: a process for `cluster`."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

SIZE, BACK, COUNT, EVERY_S = 15_000, 4_500, 200, 1 / 32


class Echo:
    """Gives as many bytes back as a worker does."""

    def run(self, data: bytes) -> bytes:
        return data[:BACK]


def main(address: str) -> None:
    """Call an actor as often as 16 edges would at two frames a second each."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="error")
    actor = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Echo).remote()
    took = []
    for _ in range(COUNT):
        data, start = os.urandom(SIZE), time.perf_counter()
        ray.get(actor.run.remote(data))
        took.append(1000 * (time.perf_counter() - start))
        time.sleep(EVERY_S)
    print(f"p50 {np.quantile(took, 0.5):.2f} ms, p99 {np.quantile(took, 0.99):.2f} ms")


if __name__ == "__main__":
    main(sys.argv[1])
