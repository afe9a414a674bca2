"""`gradfec demo`: the whole system on this machine over a bad link, without and with protection."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.experiment import Link, Record, Run, injector, run_over_link, top1
from gradfec_cli.netem import datagrams, percentage
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.console import Endpoint, EndpointType, plain_errors

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


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--loss", default="40%", type=percentage, metavar="SHARE", help="Share of the datagrams that the link loses."
)
@click.option("--burst", type=datagrams, metavar="N", help="Lose in bursts of N datagrams on average.")
@click.option("--protect", default="FEC_50_50", metavar="SCHEME", help="Scheme to compare with no protection.")
@click.option("--fec", default="zfec", metavar="CODE", help="Erasure code of FEC_A_B: zfec, leopard, zfec:256.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images.  [default: photographs from the scikit-image package]",
)
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Of the losses.")
@click.option(
    "--web",
    type=EndpointType("127.0.0.1"),
    is_flag=False,
    flag_value=FREE_PORT,
    help="Serve a live page instead, at this port or at a free one, and send frames with protection until Ctrl-C.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def demo(
    loss: float,
    burst: float | None,
    protect: str,
    fec: str,
    images: Path | None,
    seed: int,
    web: Endpoint | None,
    as_json: bool,
) -> None:
    """Start cloud, loss injector and edge on this machine; run them without protection, then with; compare.

    The reference is the answer of the uncut model to the same image. Nothing is left running.
    """
    from gradfec_common.codes import fec_named
    from gradfec_common.networks import DEFAULT_NETWORK, named_network
    from gradfec_common.plan import parse_scheme
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    schemes = list(dict.fromkeys(["none", parse_scheme(protect, fec_named(fec)).name]))
    link = Link(loss, burst, seed)
    console = Console(stderr=as_json, highlight=False)
    with photographs(images) as folder:
        with show_progress() as progress:
            weights = ensure_weights(named_network(DEFAULT_NETWORK), None, progress)
        if web is not None:
            with suppress(KeyboardInterrupt):
                show_live(folder, schemes[-1], fec, link, web, console)
            return
        port = free_port()
        with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}") as cloud:
            reference = answers_of_the_uncut_model(weights, folder, console)  # while the cloud starts
            with console.status("starting the cloud"):
                cloud.wait_until_it_says("listening on")
            runs = {}
            for scheme in schemes:
                runs[scheme] = show_run(folder, scheme, fec, link, port, console)
    if as_json:
        click.echo(
            json.dumps({"fec": fec, "runs": [summary(name, link, run, reference) for name, run in runs.items()]})
        )
    else:
        console.print(side_by_side(runs, reference))


@contextmanager
def photographs(images: Path | None) -> Iterator[Path]:
    """Yield the folder given, or one with the photographs of scikit-image."""
    if images is not None:
        if not images.is_dir():
            raise UsageError(f"{images} is no folder: --images takes a folder of images")
        from gradfec_edge.camera import open_source

        open_source(str(images), warn=lambda line: None).close()  # without a readable image, fail now
        yield images
        return
    try:
        import skimage
    except ImportError:
        raise GradfecError(
            "the demo's photographs come with scikit-image: pip install 'gradfec[demo]', or give a folder with --images"
        ) from None
    with tempfile.TemporaryDirectory(prefix="gradfec-demo-") as folder:
        for name in PHOTOGRAPHS:
            shutil.copy(Path(skimage.__file__).parent / "data" / name, folder)
        yield Path(folder)


def show_live(folder: Path, scheme: str, fec: str, link: Link, web: Endpoint, console: Console) -> None:
    """Run cloud, injector and edge with a live page until Ctrl-C; GradfecError where one of them ends before."""
    page = web if web.port else web._replace(port=free_port(socket.SOCK_STREAM))
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--web", str(page)) as cloud:
        with console.status("starting the cloud"):
            cloud.wait_until_it_says("listening on")
        with injector(link, port) as (_, relay_port):
            where = ["--camera", str(folder), "--loop", "--fps", str(LIVE_FPS), "--cloud", f"127.0.0.1:{relay_port}"]
            options = ["--protect", scheme, "--fec", fec, "--thumbnail", "--name", "demo"]
            with daemon("gradfec-edge", *where, *options) as edge:
                edge.wait_until_it_says("connected to")
                console.print(f"live page: {cloud.said_after('live page: ')}", soft_wrap=True)
                console.print(f"{scheme} at {link.loss:.0%} loss; Ctrl-C ends it")
                edge.process.wait()
                raise edge.failure()


def answers_of_the_uncut_model(weights: WeightStore, folder: Path, console: Console) -> dict[str, tuple[int, str]]:
    """Return each image's class and label by the uncut model."""
    with console.status("asking the uncut model"):
        from gradfec_cli.uncut import predict, uncut_model
        from gradfec_cloud.labels import labels_of

        labels = labels_of(weights.network)
        best = {name: int(scores.argmax()) for name, scores in predict(uncut_model(weights), folder)}
    return {name: (index, labels[index]) for name, index in best.items()}


def show_run(folder: Path, scheme: str, fec: str, link: Link, port: int, console: Console) -> Run:
    """Run the edge once, with a table that grows by a row for each answer."""
    title = f"{scheme} at {link.loss:.0%} loss" + (f", bursts of {link.burst:g}" if link.burst else "")
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns
    table.add_column("image", no_wrap=True, max_width=14)
    table.add_column("answer", min_width=16)
    for heading in ("sent", "lost", "recovered", "missing", "latency"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(record: Record) -> None:
        packets, latency = record["packets"], record["latency_ms"]
        counts = [str(packets[name]) for name in ("sent", "lost", "recovered", "missing")]
        table.add_row(escape(record["source"]), answer(record), *counts, f"{latency:.0f} ms" if latency else "")

    with Live(table, console=console, refresh_per_second=8):
        return run_over_link(folder, link, port, ["--protect", scheme, "--fec", fec], add)


def answer(record: Record) -> str:
    """Return a record's best answer in words."""
    return f"{record['top5'][0]['label']} {record['top5'][0]['score']:.2f}" if record["top5"] else "no answer"


def side_by_side(runs: Mapping[str, Run], reference: Mapping[str, tuple[int, str]]) -> Table:
    """Return the summary: each image's answers beside that of the uncut model."""
    table = Table(
        title="answers, side by side", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True
    )
    table.add_column("image", no_wrap=True, max_width=14, footer="agreement")
    table.add_column("uncut model", no_wrap=True)
    classes = {name: index for name, (index, _) in reference.items()}
    for scheme, run in runs.items():
        table.add_column(scheme, no_wrap=True, footer=f"{run.agreement(classes):.0%} of {len(run.records)} images")
    for name, (index, label) in reference.items():
        cells = []
        for run in runs.values():
            record = next(record for record in run.records if record["source"] == name)
            agrees = top1(record) == index
            cells.append(f"[{'green' if agrees else 'red'}]{'=' if agrees else 'x'} {answer(record)}[/]")
        table.add_row(escape(name), label, *cells)
    return table


def summary(scheme: str, link: Link, run: Run, reference: Mapping[str, tuple[int, str]]) -> dict[str, object]:
    """Return a run's figures for --json."""
    return {
        "protect": scheme,
        "loss": link.loss,
        "frames": len(run.records),
        "agreement": run.agreement({name: index for name, (index, _) in reference.items()}),
        "packets": run.packets(),
        "latency_ms": run.latency_ms(),
    }
