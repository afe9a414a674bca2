"""The loss injector for IP packets: carries them between two TUN devices, with the injector's options.

`python -m gradfec_lab.bench.rivals.tunnel NEAR FAR --loss 20% ...`, with the devices' file descriptors.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from gradfec_cli.netem import SCHEDULE_OPTION, channel_options, channel_settings, run_until_complete, two_ways
from gradfec_cli.relay import Schedule, Way
from gradfec_cli.schedule import Step, read_schedule
from gradfec_host.console import plain_errors

READY = "carrying packets"
LONGEST_PACKET_BYTES = 65_535
BATCH_PACKETS = 256
IPV4 = 4  # the first four bits of a packet; the kernel also sends some IPv6 to find neighbours


@click.command()
@click.argument("near", type=int)
@click.argument("far", type=int)
@channel_options("")
@channel_options("back-")
@SCHEDULE_OPTION
@click.option("--seed", type=int, default=0)
@plain_errors
def main(near: int, far: int, schedule: Path | None, seed: int, **options: Any) -> None:
    """Carry IP packets from NEAR to FAR and back until a signal; then print the totals as one JSON object."""
    settings = [replace(channel_settings(prefix, options), header_bytes=0) for prefix in ("", "back-")]
    steps = [
        replace(step, up=replace(step.up, header_bytes=0), back=replace(step.back, header_bytes=0))
        for step in (read_schedule(schedule) if schedule else [])
    ]
    run_until_complete(carry(near, far, *two_ways(settings, seed, options), steps))


async def carry(near: int, far: int, up: Way[None], back: Way[None], steps: Sequence[Step]) -> None:
    """Carry packets both ways until a signal."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, stopped.set)
    schedule = Schedule(steps, up, back)
    for source, way, target in ((near, up, far), (far, back, near)):
        way.connect(lambda _, packet, target=target: written(target, packet))  # type: ignore[misc]
        loop.add_reader(source, pass_on, source, way, schedule)
    click.echo(READY, err=True)
    await stopped.wait()
    schedule.stop()
    up.close()
    back.close()
    click.echo(json.dumps({"up": asdict(up.totals), "back": asdict(back.totals)}))


def pass_on(source: int, way: Way[None], schedule: Schedule) -> None:
    """Put the packets that wait at a device into a channel."""
    batch: list[tuple[None, bytes]] = []
    with suppress(OSError):  # BlockingIOError: all read
        for _ in range(BATCH_PACKETS):
            packet = os.read(source, LONGEST_PACKET_BYTES)
            if packet[0] >> 4 == IPV4:
                batch.append((None, packet))
    if batch:
        schedule.start()
        way.push(batch, time.monotonic())


def written(target: int, packet: bytes) -> bool:
    """Write a packet to a device; return whether it took it."""
    try:
        os.write(target, packet)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
