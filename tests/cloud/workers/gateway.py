"""The daemon as a gateway with the back-end of `stub`, and so without weights: a process for `cluster`."""

from __future__ import annotations

import json
from functools import partial

import click

from gradfec_cloud.access import key_source
from gradfec_cloud.daemon import CloudOptions, run_cloud
from gradfec_cloud.inference import Inference
from gradfec_cloud.options import with_options
from gradfec_cloud.port import Port
from gradfec_cloud.workers import WORKERS
from gradfec_common.heads import Answer
from gradfec_common.networks import Cut
from gradfec_host import logs
from gradfec_host.console import Endpoint

from .stub import coding, loaders


def answer(cut: Cut, output: object) -> Answer:
    """Return the answer in a tensor's output, without the classes' names."""
    return cut.network.head.answer(output, ())  # type: ignore[arg-type]


@click.command()
@click.argument("port", type=int)
@click.argument("metrics", type=int)
@click.option("--takes-ms", default=20.0)
@click.option("--workers", default="local")
@with_options(option for kind in WORKERS.values() for option in kind.options)
def main(port: int, metrics: int, takes_ms: float, workers: str, **given: object) -> None:
    """Serve until a signal; then print the totals."""
    log = logs.configure("gradfec-cloud")
    options = CloudOptions([coding().cut], 0.5, Endpoint("127.0.0.1", metrics), key_source(None, None, insecure=True))
    opened = partial(WORKERS[workers].open(given, log), loaders(takes_ms / 1000))
    at = Port(Endpoint("127.0.0.1", port))
    totals = run_cloud(options, at, None, lambda deliver: Inference(opened, answer, deliver, max_batch=1), log)
    at.close()
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
