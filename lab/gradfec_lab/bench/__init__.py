"""`gradfec bench`: what each step of a frame costs on this machine."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import click

from gradfec_cli import GRADFEC
from gradfec_cli.lazy import LazyGroup
from gradfec_common.errors import GradfecError
from gradfec_host.console import EXIT_INTERRUPTED, plain_errors

COMMANDS = {
    "packet-path": (
        "gradfec_lab.bench.packet_path",
        "Each stage between front-end and back-end, on both sides, for one tensor.",
    ),
    "codes": ("gradfec_lab.bench.codes", "Each erasure code: cost and protection, by block size."),
    "udp": ("gradfec_lab.bench.udp", "Datagrams over loopback: many a system call, compared with one."),
    "models": ("gradfec_lab.bench.models", "Both halves of the network on each runtime, and their start time."),
    "end-to-end": ("gradfec_lab.bench.end_to_end", "Frames through both daemons, compared with the uncut model."),
    "cloud-scale": (
        "gradfec_lab.bench.cloud_scale",
        "Many edges and one cloud on one core, with a stub as its back-end.",
    ),
}
BY_ITSELF = {  # what takes photographs or hours, and is no part of `gradfec bench` without a command
    "rivals": (
        "gradfec_lab.bench.rivals.command",
        "A camera over bad links: gradfec beside JPEG and video.",
    ),
    "share": (
        "gradfec_lab.bench.share",
        "Edges and a TCP stream on one full link: what each of them gets.",
    ),
    "splits": ("gradfec_lab.bench.splits", "Time each split of a network on this machine, for gradfec plan --edge."),
}
SHARED = ("ratios", "datagrams_per_s")  # members that several benchmarks add to


@click.command(
    cls=LazyGroup,
    lazy=COMMANDS | BY_ITSELF,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_context
@plain_errors
def bench(context: click.Context, as_json: bool) -> None:
    """Measure what each step of a frame costs on this machine: medians of several runs after a warm-up.

    Without a command, run all of them but rivals, share and splits, one after the other; this takes some minutes.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"put --json last: gradfec bench {context.invoked_subcommand} --json")
        return
    found: dict[str, Any] = {}
    failed = []
    for name in COMMANDS:
        click.echo(f"gradfec bench {name}", err=True)
        code, text = run(name, as_json)
        if code < 0 or code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(name)
        elif as_json:
            merge(found, name, json.loads(text))
    if as_json:
        click.echo(json.dumps(found))
    if failed:
        raise GradfecError(f"no results for {', '.join(failed)}; the reasons are above")


def run(name: str, as_json: bool) -> tuple[int, str]:
    """Run one benchmark in another process; return its exit code, and its JSON unless it prints a table."""
    command = [*GRADFEC, "bench", name, *(["--json"] if as_json else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE if as_json else None, text=True, check=False)
    return done.returncode, done.stdout or ""


def merge(found: dict[str, Any], name: str, said: dict[str, Any]) -> None:
    """Add one benchmark's object to all others under its name, and merge the shared members."""
    for member in SHARED:
        found.setdefault(member, {}).update(said.pop(member, {}))
    found[name] = said
