"""`gradfec bench`: what each part of the way costs, on this machine."""

from __future__ import annotations

import click

from gradfec_lab.lazy import LazyGroup

COMMANDS = {
    "cloud-scale": ("gradfec_lab.bench.cloud_scale", "Many edges against one cloud on one core, with a stub back-end."),
    "codes": ("gradfec_lab.bench.codes", "Each erasure code: cost and protection, by size of blocks."),
    "end-to-end": ("gradfec_lab.bench.end_to_end", "Frames through both daemons, against the uncut model."),
    "models": ("gradfec_lab.bench.models", "Both halves of the network on each runtime, and their start."),
    "packet-path": ("gradfec_lab.bench.packet_path", "Each stage between the networks, both sides, for one tensor."),
    "udp": ("gradfec_lab.bench.udp", "Datagrams over loopback: many a system call, against one a call."),
}


@click.command(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure what each part of the way costs on this machine: medians of several runs after a warm-up."""
