"""`gradfec plan`: where to split a network for a link."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_cli.quantities import megabits, milliseconds, percentage
from gradfec_common.errors import GradfecError
from gradfec_common.splits import GOALS, Conditions
from gradfec_host.completion import completing, models
from gradfec_host.console import CONTEXT, Number, plain_errors, runtime_option
from gradfec_lab.progress import bar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gradfec_common.networks import Network
    from gradfec_common.splits import Way

THIS = "this"
SAVED_LOSSES = (0.0, 0.02, 0.1, 0.3)  # that --split auto may meet
FILE = click.Path(path_type=Path)
SHOWN = 12  # ways in a table
ENOUGH = 40  # photographs


class LinkType(click.ParamType[Conditions]):
    """RATE,LOSS,RTT."""

    name = "RATE,LOSS,RTT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Conditions:
        """Read Mbit/s, a share and milliseconds; fail with what is wrong."""
        if isinstance(value, Conditions):
            return value
        parts = str(value).split(",")
        if len(parts) != 3:
            self.fail(
                f"{value!r} is not Mbit/s, a share that is lost, and ms to the cloud and back: 2,5%,40", param, ctx
            )
        link = Conditions(megabits(parts[0]), percentage(parts[1]), milliseconds(parts[2]))
        if link.loss >= 1:
            self.fail(f"{value!r}: nothing passes a link that loses all", param, ctx)
        return link


model_option = click.option(
    *("--model", "name"),
    required=True,
    metavar="NAME",
    shell_complete=completing(models),
    help="resnet50, or a model that was added by gradfec model add.",
)
images_option = click.option("--images", required=True, type=FILE, metavar="DIR", help="Folder of photographs.")


@click.command(context_settings=CONTEXT)
@model_option
@click.option(
    "--link",
    "links",
    required=True,
    multiple=True,
    type=LinkType(),
    help="The link: Mbit/s, the share of the datagrams that is lost, and ms to the cloud and back, as 2,5%,40. Given "
    "several times, a plan for each.",
)
@images_option
@click.option(
    "--edge",
    default=THIS,
    metavar="this|FILE",
    help="Whose edge: this machine's, or that of the one where gradfec bench splits has made FILE. The cloud is this "
    "machine.",
)
@click.option("--goal", default=GOALS[0], type=click.Choice(GOALS), help="What to minimise; energy: time at the edge.")
@click.option(
    "--min-agreement",
    default=0.95,
    type=Number(0, 1),
    metavar="SHARE",
    help="Choose among ways that keep at least this share of the uncut network's answers over the link.",
)
@click.option("--fps", default=5.0, type=Number(min=0, min_open=True), help="Frames a second that must get through.")
@click.option("--limit", default=ENOUGH, type=click.IntRange(1), help="Use this many photographs, the first by name.")
@click.option("--all", "show_all", is_flag=True, help=f"List all ways, not only the best {SHOWN}.")
@click.option("--figure", "figure_file", type=FILE, metavar="FILE", help="Draw the best way at each split, as PNG.")
@click.option("--save", is_flag=True, help="Keep the measurements with the model, for gradfec-edge --split auto.")
@click.option("--out", type=FILE, metavar="FILE", help="Write them to a file, for gradfec-edge --plan FILE.")
@runtime_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def plan(
    name: str,
    links: tuple[Conditions, ...],
    images: Path,
    edge: str,
    goal: str,
    min_agreement: float,
    fps: float,
    limit: int,
    show_all: bool,
    figure_file: Path | None,
    save: bool,
    out: Path | None,
    runtime: str,
    as_json: bool,
) -> None:
    """Measure where to split a network for a link, and what each split costs.

    For each split and codec: the time at the edge and in the cloud, the bytes with all parity and headers, and how many
    answers are the uncut network's when the link loses its share, with the protection that the link gets (auto). A
    latency is the sum of edge, bytes over the link's rate, there and back, and cloud. Nothing is asked for again.
    """
    from gradfec_common.networks.imported import Imported
    from gradfec_common.splits import Wanted, ranked
    from gradfec_host.models import model_of, network_called
    from gradfec_host.models.find import runtime_for
    from gradfec_host.split_table import SplitTable, table_path
    from gradfec_lab.plan.edge_file import read_edge_file, with_times
    from gradfec_lab.plan.report import figure, grid, packed, sentence
    from gradfec_lab.sweep.store import write_file

    network = network_called(name)
    if isinstance(network, Imported):
        model_of(network).need_whole("gradfec plan")
    runtime = runtime_for(runtime, [network])
    there = None if edge == THIS else read_edge_file(Path(edge), network)
    losses = sorted({link.loss for link in links} | ({*SAVED_LOSSES} if save or out else set()))
    pictures = pictures_of(network, images, limit)
    warn_if_few(pictures)
    ways = measured_ways(network, pictures, losses, runtime)
    if there is not None:
        ways = with_times(Path(edge), ways, there)
    wanted = Wanted(goal, min_agreement, 1 / fps)
    table = SplitTable(network, links[0], wanted, tuple(ways))
    for path in ([table_path(network)] if save else []) + ([out] if out else []):
        table.write(path)
    if figure_file:
        write_file(figure_file, figure(network.title, ways, links, wanted))
    plans = [(link, ranked(ways, link, wanted)) for link in links]
    if as_json:
        said = {"model": name, "images": len(pictures), "runtime": runtime, "edge": edge}
        click.echo(json.dumps({**said, "plans": [packed(rows, link, wanted, len(pictures)) for link, rows in plans]}))
        return
    for link, rows in plans:
        grid(rows, link, wanted, None if show_all else SHOWN).show()
        click.echo(f"{sentence(rows, wanted, len(pictures))}\n")


def pictures_of(network: Network, folder: Path, limit: int) -> list[npt.NDArray[np.uint8]]:
    """Read a folder's photographs; GradfecError if none of them can be used."""
    from gradfec_lab.photographs import Photographs

    photographs = Photographs(folder, network.preprocess, limit)
    read = [photographs.picture(name) for name in photographs.names]
    pictures = [picture for picture in read if picture is not None]
    for why in photographs.skipped.values():
        click.echo(f"skipped: {why}", err=True)
    if not pictures:
        raise GradfecError(f"none of the {len(read)} images in {folder} can be used")
    return pictures


def warn_if_few(pictures: Sequence[object]) -> None:
    """Say on standard error if agreements will be rough."""
    if len(pictures) < ENOUGH:
        few = f"{len(pictures)} photographs are few: a single answer counts {1 / len(pictures):.0%}"
        click.echo(f"{few}; agreements are rough, so give {ENOUGH} or more", err=True)


def measured_ways(
    network: Network, pictures: Sequence[npt.NDArray[np.uint8]], losses: Sequence[float], runtime: str
) -> list[Way]:
    """Measure all ways to split a network, on BGR pictures (h, w, 3) and at each loss; GradfecError.

    Say on standard error if the times contradict each other.
    """
    from gradfec_lab.plan.candidates import candidates
    from gradfec_lab.plan.measure import disturbed, measured, stores_of, uncut_answers

    found = [*candidates(network)]
    stores = stores_of(found)
    with bar("measuring", len(found) * len(pictures)) as advance:
        reference = uncut_answers(network, pictures, runtime, stores)
        ways, layers_s = measured(found, pictures, reference, losses, runtime, stores, advance)
    if warning := disturbed(layers_s):
        click.echo(warning, err=True)
    return ways
