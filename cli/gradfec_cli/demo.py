"""`gradfec demo`: everything on this machine over a bad link: without protection, as in the paper, and by default."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.experiment import Link, Record, Run, coding_options, injector, run_over_link, top1
from gradfec_cli.options import burst_option, codec_option, fec_option, packets_option
from gradfec_cli.quantities import percentage
from gradfec_common.codes import CODES, LEOPARD, ZFEC, fec_code
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.protect import NoProtection
from gradfec_host.console import CONTEXT, Endpoint, EndpointType, plain_errors
from gradfec_host.extras import missing
from gradfec_host.recent import kilobytes

if TYPE_CHECKING:
    from gradfec_host.weights import WeightStore

# Photographs in scikit-image's package: public domain (NASA) or CC0.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
FREE_PORT = Endpoint("127.0.0.1", 0)
LIVE_FPS = 2
COUNTED = ("sent", "lost", "recovered", "missing")  # of a frame, in its row
UNITS = "sent and lost are datagrams, recovered and missing are packets"


@dataclass(frozen=True)
class Arm:
    """One of the runs that are compared, and the edge's options for it."""

    name: str
    policy: str
    options: list[str]


PAPER = "FEC_50_50"  # for the usual loss


@click.command(context_settings=CONTEXT)
@click.option(
    "--loss", default="40%", type=percentage, metavar="SHARE", help="Share of the datagrams that the link loses."
)
@burst_option
@click.option(
    "--protect",
    metavar="POLICY",
    help=f"Policy of the protected runs.  [default: {PAPER} as in the paper, and the edge's default]",
)
@fec_option()
@codec_option
@packets_option("fit")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images.  [default: photographs from the scikit-image package]",
)
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Seed for the losses.")
@click.option(
    "--web",
    type=EndpointType("127.0.0.1"),
    is_flag=False,
    flag_value=FREE_PORT,
    help="Instead, serve a live page, on this port or a free one, and send protected frames until Ctrl-C.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def demo(
    loss: float,
    burst: float,
    protect: str | None,
    fec: str,
    codec: str,
    packets_a_datagram: int | None,
    images: Path | None,
    seed: int,
    web: Endpoint | None,
    as_json: bool,
) -> None:
    """Start cloud, loss injector and edge on this machine, and compare the answers over the bad link.

    There are three runs: without protection, with the paper's coding, and with the default one. The reference is the
    uncut model's answer to the same image. Everything is stopped at the end.
    """
    from gradfec_common.networks import DEFAULT_CUT, named_cut
    from gradfec_edge.coding import coding_of
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    cut = named_cut(DEFAULT_CUT)
    policy = coding_of(cut, None, codec, protect, fec, packets_a_datagram).policy.name
    options = coding_options(policy, fec, codec, packets_a_datagram)
    arms = [
        Arm("unprotected", "none", coding_options("none", fec, codec, packets_a_datagram)),
        Arm("paper", protect or PAPER, ["--mode", "paper", "--protect", protect or PAPER]),
        Arm("protected", policy, options),
    ]
    link = Link(loss, burst if burst > 1 else None, seed)
    console = Console(stderr=as_json, highlight=False)
    with photographs(images) as folder:
        with show_progress() as progress:
            weights = ensure_weights(cut.network, None, progress)
        if web is not None:
            with suppress(KeyboardInterrupt):
                show_live(folder, policy, options, link, web, console)
            return
        reference, runs = compared(folder, weights, arms, link, console)
    if as_json:
        summaries = [summary(arm, link, runs[arm.name], reference) for arm in arms]
        click.echo(json.dumps({"fec": fec, "codec": codec, "runs": summaries}))
        return
    console.print(side_by_side(runs, reference))
    console.print(in_short(runs, reference), soft_wrap=True)
    if hint := larger_groups(policy, runs["protected"], fec):
        console.print(hint, soft_wrap=True)


@contextmanager
def photographs(images: Path | None) -> Iterator[Path]:
    """Yield the given folder, or one with scikit-image's photographs.

    UsageError if it has no images; GradfecError if scikit-image is not installed.
    """
    if images is not None:
        if not images.is_dir():
            raise UsageError(f"{images} is not a folder: --images takes a folder of images")
        from gradfec_edge.camera import open_source

        open_source(str(images), warn=lambda line: None).close()  # fail early if no image is readable
        yield images
        return
    try:
        import skimage
    except ImportError:
        raise GradfecError(
            f"the demo's photographs come with scikit-image: {missing('skimage')}, or give a folder with --images"
        ) from None
    with tempfile.TemporaryDirectory(prefix="gradfec-demo-") as place:
        folder = Path(place) / "photos"  # the live page calls the camera so
        folder.mkdir()
        for name in PHOTOGRAPHS:
            shutil.copy(Path(skimage.__file__).parent / "data" / name, folder)
        yield folder


def show_live(folder: Path, policy: str, options: list[str], link: Link, web: Endpoint, console: Console) -> None:
    """Run cloud, injector and edge with its live page until Ctrl-C; GradfecError if one of them ends before."""
    page = web if web.port else web._replace(port=free_port())
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--fill", "zero") as cloud:
        with console.status("starting the cloud"):
            cloud.wait_until_it_says("listening on")
        with injector(link, port) as (_, relay_port):
            where = ["--camera", str(folder), "--loop", "--fps", str(LIVE_FPS), "--cloud", f"127.0.0.1:{relay_port}"]
            with daemon("gradfec-edge", *where, *options, "--web", str(page), "--name", "demo") as edge:
                edge.wait_until_it_says("connected to")
                console.print(f"live page: {edge.said_after('live page: ')}", soft_wrap=True)
                console.print(f"{policy} at {link.loss:.0%} loss; press Ctrl-C to stop")
                edge.process.wait()
                raise edge.failure()


def compared(
    folder: Path, weights: WeightStore, arms: list[Arm], link: Link, console: Console
) -> tuple[dict[str, tuple[int, str]], dict[str, Run]]:
    """Run all arms over the link to one cloud; return the uncut model's answers, and each arm's run."""
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--fill", "zero") as cloud:
        reference = answers_of_the_uncut_model(weights, folder, console)  # while the cloud starts
        with console.status("starting the cloud"):
            cloud.wait_until_it_says("listening on")
        return reference, {arm.name: show_run(folder, arm, link, port, console) for arm in arms}


def answers_of_the_uncut_model(weights: WeightStore, folder: Path, console: Console) -> dict[str, tuple[int, str]]:
    """Return the uncut model's class and label for each image."""
    with console.status("running the uncut model"):
        from gradfec_cli.uncut import predict, uncut_model
        from gradfec_cloud.labels import labels_of
        from gradfec_common.heads.classify import label_of

        labels = labels_of(weights.network)
        best = {name: int(scores.argmax()) for name, scores in predict(uncut_model(weights), folder)}
    return {name: (index, label_of(index, labels)) for name, index in best.items()}


def show_run(folder: Path, arm: Arm, link: Link, port: int, console: Console) -> Run:
    """Run the edge once, and show a table that grows by one row for each answer."""
    title = f"{arm.name} ({arm.policy}) at {link.loss:.0%} loss"
    title += f", bursts of {link.burst:g}" if link.burst else ""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=UNITS)  # fits 80 columns
    table.add_column("image", no_wrap=True, max_width=14)
    table.add_column("answer", min_width=16)
    for heading in (*COUNTED, "latency"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(record: Record) -> None:
        counted, latency = {**record["datagrams"], **record["packets"]}, record["latency_ms"]
        counts = ["" if counted[name] is None else str(counted[name]) for name in COUNTED]
        table.add_row(escape(record["source"]), answer(record), *counts, f"{latency:.0f} ms" if latency else "")

    with Live(table, console=console, refresh_per_second=8):
        run = run_over_link(folder, link, port, arm.options, add)
    if not console.is_terminal:
        console.line()  # which Live leaves out there
    return run


def answer(record: Record) -> str:
    """Return a record's best answer in words."""
    return f"{record['top5'][0]['label']} {record['top5'][0]['score']:.2f}" if record.get("top5") else "no answer"


def side_by_side(runs: Mapping[str, Run], reference: Mapping[str, tuple[int, str]]) -> Table:
    """Return the summary: each image's answers next to the uncut model's."""
    table = Table(
        title="answers, side by side", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True
    )
    table.add_column("image", no_wrap=True, max_width=14, footer="agreement")
    table.add_column("uncut model", no_wrap=True)
    classes = {name: index for name, (index, _) in reference.items()}
    for name, run in runs.items():
        table.add_column(name, no_wrap=True, min_width=10, footer=f"{run.agreement(classes):.0%} of {len(run.records)}")
    for name, (index, label) in reference.items():
        cells = []
        for run in runs.values():
            record = next(record for record in run.records if record["source"] == name)
            agrees = top1(record) == index
            cells.append(f"[green]= {record['top5'][0]['score']:.2f}[/]" if agrees else f"[red]x {answer(record)}[/]")
        table.add_row(escape(name), label, *cells)
    table.add_section()
    table.add_row("bytes", "a frame", *(f"{run.frame_bytes():,.0f}" for run in runs.values()))
    return table


def in_short(runs: Mapping[str, Run], reference: Mapping[str, tuple[int, str]]) -> str:
    """Say in one sentence what protection is worth."""
    classes = {name: index for name, (index, _) in reference.items()}
    frames = len(reference)
    right = {name: f"{run.agreement(classes) * frames:.0f} of {frames}" for name, run in runs.items()}
    size = {name: kilobytes(run.frame_bytes()) for name, run in runs.items()}
    return (
        f"in short: over this link, {right['unprotected']} answers are the uncut model's without protection, and "
        f"{right['protected']} with it, in {size['protected']} a frame; the paper's coding has {right['paper']}, in "
        f"{size['paper']}; this link has room for all of it, so frames are large"
    )


def larger_groups(policy: str, run: Run, fec: str) -> str:
    """Say that leopard would help, if a protected run with small groups misses packets, and leopard is installed."""
    missing, one_group = run.packets()["missing"], run.datagrams()["sent"] <= ZFEC.max_n * len(run.records)
    is_leopard = fec_code(fec).name == LEOPARD.name
    if LEOPARD.id not in CODES or is_leopard or policy == NoProtection.name or one_group or not missing:
        return ""
    return (
        f"{policy} still misses {missing} packets, because {fec} codes small groups, each by itself; "
        f"--fec {LEOPARD.name} codes a whole frame at once, and would miss fewer"
    )


def summary(arm: Arm, link: Link, run: Run, reference: Mapping[str, tuple[int, str]]) -> dict[str, object]:
    """Return a run's figures for --json."""
    return {
        "name": arm.name,
        "protect": arm.policy,
        "loss": link.loss,
        "frames": len(run.records),
        "agreement": run.agreement({name: index for name, (index, _) in reference.items()}),
        "frame_bytes": round(run.frame_bytes()),
        "packets": run.packets(),
        "datagrams": run.datagrams(),
        "latency_ms": run.latency_ms(),
    }
