"""`gradfec doctor`: check for common problems, one by one, and say how to fix them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_cli.doctor.finding import Finding, State, broken
from gradfec_common.errors import GradfecError
from gradfec_host.console import CONTEXT, Endpoint, EndpointType, insecure_option, key_file_option, plain_errors

if TYPE_CHECKING:
    from gradfec_common.networks import Cut

DEFAULT_PORT = 9000
MARKS = {State.OK: ("✓", "green"), State.WARNING: ("!", "yellow"), State.BROKEN: ("✗", "red")}
EXAMPLES = """\b
Examples:
  gradfec doctor
  gradfec doctor --camera /dev/video0 --cloud cloud.example:9000     on the camera box
  gradfec doctor --listen 9000 --keys keys                           on the server

Exit status: 0 if everything is fine or there are only warnings; 1 if something is broken; 2 for a wrong option.
"""

Check = Callable[[], Finding]


@click.command(epilog=EXAMPLES, context_settings=CONTEXT)
@click.option("--cloud", type=EndpointType(), help="Connect to this cloud: does it answer, how fast, how much is lost?")
@click.option("--pings", default=20, type=click.IntRange(1, 1000), help="How many pings to send to the cloud.")
@click.option(
    "--split", default="conv2_block1_add", metavar="LAYER", help="Where the network is cut; needed for --cloud."
)
@click.option("--camera", metavar="SRC", help="Take a frame from this source, as gradfec-edge would.")
@click.option(
    "--listen",
    type=EndpointType(""),
    help=f"UDP port that the cloud listens on.  [default: {DEFAULT_PORT}]",
    show_default=False,
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Check these weights instead of the cached ones."
)
@key_file_option()
@click.option("--keys", type=click.Path(path_type=Path), metavar="DIR", help="Directory of keys, as for gradfec-cloud.")
@insecure_option()
@click.option("--results", type=click.Path(path_type=Path), metavar="DIR", help="Folder for results files.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@plain_errors
def doctor(
    cloud: Endpoint | None,
    pings: int,
    split: str,
    camera: str | None,
    listen: Endpoint | None,
    weights: Path | None,
    key_file: Path | None,
    keys: Path | None,
    insecure: bool,
    results: Path | None,
    as_json: bool,
) -> None:
    """Look for common problems with gradfec on this machine, and say how to fix them.

    If something that you name with an option does not work, it is broken. If you did not name it, you may not need it,
    so it is only a warning.
    """
    from gradfec_cli.doctor import machine
    from gradfec_common.networks import DEFAULT_CUT, named_cut

    cut = named_cut(split)
    here = listen or Endpoint("", DEFAULT_PORT)
    answers_here = partial(answers_at, here, cut, key_file, keys, insecure)
    checks: dict[str, Check] = {
        "versions": machine.versions,
        "runtime": machine.runtime,
        "weights": lambda: machine.weights(cut.network, weights, cloud is not None and cut.name == DEFAULT_CUT),
        "key": lambda: machine.key(key_file, keys, insecure),
        "port": lambda: machine.port(here, listen is not None, answers_here),
        "receive buffer": machine.receive_buffer,
        "offload": machine.offload,
        "clock": machine.clock,
        "disk": lambda: machine.disk(results or Path(), results is not None),
        "camera": lambda: machine.camera(camera),
    }
    if cloud is not None:
        checks["frame"] = lambda: machine.frame(cut)
        checks["cloud"] = lambda: call(cloud, cut, pings, key_file, insecure)
    found = run(checks)
    show_json(found) if as_json else show(found)
    if any(finding.state is State.BROKEN for finding in found.values()):
        sys.exit(1)


def call(cloud: Endpoint, cut: Cut, pings: int, key_file: Path | None, insecure: bool) -> Finding:
    """Return how well a cloud can be reached with this machine's key; GradfecError without one."""
    from gradfec_cli.doctor import reach
    from gradfec_common.session.handshake import HandshakeKey
    from gradfec_host.key_files import edge_key

    return reach.cloud(cloud, HandshakeKey(edge_key(key_file, insecure=insecure)), cut, pings)


def answers_at(here: Endpoint, cut: Cut, key_file: Path | None, keys: Path | None, insecure: bool) -> bool:
    """Return whether a cloud that has one of these keys answers on a port of this machine."""
    from gradfec_cli.doctor import reach
    from gradfec_cloud.access import key_source

    try:
        one = next(iter(key_source(key_file, keys, insecure=insecure)().values()))
        return reach.has_cloud(Endpoint(here.host or "127.0.0.1", here.port), one, cut)
    except GradfecError:
        return False


def run(checks: Mapping[str, Check]) -> dict[str, Finding]:
    """Run all checks, one after the other."""
    from rich.console import Console

    found: dict[str, Finding] = {}
    with Console(stderr=True).status("") as status:
        for name, check in checks.items():
            status.update(f"checking: {name}")
            found[name] = guarded(check)
    return found


def guarded(check: Check) -> Finding:
    """Run one check; if it cannot be done, that is its finding."""
    try:
        return check()
    except GradfecError as error:
        return broken(str(error))
    except Exception as error:  # the other checks are still worth running
        return broken(f"cannot be checked: {type(error).__name__}: {error}", "pip install gradfec again")


def show(found: Mapping[str, Finding]) -> None:
    """Print the findings: a table on a terminal, otherwise plain lines."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        for name, finding in found.items():
            click.echo(f"{finding.state.value:<8} {name}: {finding.text}")
            if finding.remedy:
                click.echo(f"         to do: {finding.remedy}")
        return
    table = Table.grid(padding=(0, 1))
    for name, finding in found.items():
        mark, colour = MARKS[finding.state]
        remedy = f"\n[bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(f"[{colour}]{mark}[/]", f"[{colour}]{name}[/]", escape(finding.text) + remedy)
    console.print(table)


def show_json(found: Mapping[str, Finding]) -> None:
    """Print the findings as one JSON object."""
    checks = [
        {"name": name, "state": finding.state.value, "text": finding.text, "remedy": finding.remedy, **finding.facts}
        for name, finding in found.items()
    ]
    click.echo(json.dumps({"ok": all(check["state"] != State.BROKEN.value for check in checks), "checks": checks}))
