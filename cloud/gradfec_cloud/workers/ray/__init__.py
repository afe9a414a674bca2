"""`ray`: workers of a Ray cluster, on any of its machines. Its parts:

    RayWorkers (pool) -> Bridge, a process of its own (bridge) -> Ray -> Worker, an actor on any machine (worker)

`dispatch` decides who works on what. `parcel` is what a worker needs before it can work.
"""

from __future__ import annotations

import click

from gradfec_cloud.options import Given
from gradfec_cloud.workers.pool import OpenWorkers, WorkersKind
from gradfec_common.errors import UsageError
from gradfec_host.console import EndpointType, Number
from gradfec_host.extras import need
from gradfec_host.logs import Log

AUTO = "auto"


class ClusterType(click.ParamType[str]):
    """A click type for HOST:PORT of a cluster's head, or auto."""

    name = "HOST:PORT|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse `value`, or fail with a sentence that names it."""
        return AUTO if value == AUTO else str(EndpointType().convert(value, param, ctx))


OPTIONS = (
    click.option(
        "--ray-address",
        default=AUTO,
        type=ClusterType(),
        help="With --workers ray: the cluster, by its head's address. auto: the one that this machine is part of.",
    ),
    click.option(
        "--min-workers",
        default=1,
        type=click.IntRange(1, 1000),
        help="With --workers ray: how many workers there are at least.",
    ),
    click.option(
        "--max-workers",
        type=click.IntRange(1, 1000),
        help="With --workers ray: how many there may be while frames wait for one.  [default: as --min-workers]",
    ),
    click.option(
        "--worker-cpus",
        default=1,
        type=Number(0, 1024),
        help="With --workers ray: cores that the cluster keeps for each worker.",
    ),
    click.option(
        "--worker-gpus",
        default=0,
        type=Number(0, 64),
        help="With --workers ray: GPUs that the cluster keeps for each worker.",
    ),
    click.option(
        "--local-fallback",
        is_flag=True,
        help="With --workers ray: this process does the work while no worker is there.",
    ),
)


def open_ray(given: Given, log: Log) -> OpenWorkers:
    """Return what the options ask for; UsageError if Ray is not installed, or the options contradict each other."""
    from functools import partial

    from gradfec_cloud.workers.ray.pool import RayOptions, RayWorkers

    need("ray")
    least, most = given["min_workers"], given["max_workers"] or given["min_workers"]
    if most < least:
        raise UsageError(f"--max-workers {most} is less than --min-workers {least}")
    size = given["worker_cpus"], given["worker_gpus"]
    return partial(RayWorkers, RayOptions(given["ray_address"], least, most, *size, given["local_fallback"]), log)


RAY = WorkersKind("ray", OPTIONS, open_ray)
