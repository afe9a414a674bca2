"""What every sweep shares: options, images and labels, the folder, and the run itself."""

from __future__ import annotations

import functools
import hashlib
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, Cut, full_name, named_cut
from gradfec_common.packets import DEFAULT_ROWS, PacketGrid
from gradfec_host.concealment_file import learned_for
from gradfec_host.extras import need
from gradfec_host.tuned import BackEndFile, TunedWeights, chosen_back_ends
from gradfec_lab.bench.measure import machine
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.engine import REFERENCE, Case, Engine, Model, Scorer, Subject
from gradfec_lab.sweep.labels import labels_of
from gradfec_lab.sweep.store import Record, Store

Image = npt.NDArray[np.uint8]  # RGB (side, side, 3)


@dataclass(frozen=True)
class Study:
    """The images of a sweep, their labels, and the cut whose tensors are sent."""

    photographs: Photographs
    truth: dict[str, int] | None  # class index by name
    cut: Cut
    grid: PacketGrid
    seed: int
    out: Path | None
    backend: BackEndFile | None = None  # answers instead of the network's own back-end

    @property
    def names(self) -> list[str]:
        """The images' names, in order."""
        return self.photographs.names

    def about(self, store: Store, names: list[str]) -> dict[str, Any]:
        """Return what every report says of its run: the usable images `names`, and what they were measured with."""
        return {
            "images": len(names),
            "skipped": store.skipped(self.names),
            "seed": self.seed,
            "command": command_line(),
            "machine": machine(),
        }

    @contextmanager
    def store(self, kind: str, **settings: Any) -> Iterator[Store]:
        """Open the sweep's folder, a temporary one if none was given."""
        common = {
            "sweep": kind,
            "number of images (--limit, --sample)": len(self.names),
            "images": self.photographs.digest(self.names),
            "split": full_name(self.cut),
            "rows": self.grid.rows,
            "seed": self.seed,
            "back-end": self.backend and self.backend.digest,
        }
        need("tensorflow")
        if self.out is not None:
            need("matplotlib")  # for the figures at the end
            with Store(self.out, {**common, **settings}) as store:
                yield store
            return
        with (
            tempfile.TemporaryDirectory(prefix="gradfec-sweep-") as folder,
            Store(Path(folder), {**common, **settings}) as store,
        ):
            yield store

    def run(
        self,
        store: Store,
        estimators: list[str],
        points: Mapping[str, int],
        cases: Callable[[Subject], Iterable[Case]],
        numbers: Callable[[Subject], dict[str, float]] = lambda subject: {},
        wanted_numbers: Iterable[str] = (),
        constant: Iterable[bytes] = (),
    ) -> list[str]:
        """Compute what is missing in the store; return the names of the usable images.

        `points` gives the number of repetitions of each point. After Ctrl-C, finished results stay in the store.
        """
        wanted_numbers = [*wanted_numbers]
        points = {REFERENCE: 1, **points}
        todo = [name for name in self.names if not store.knows(name, points, wanted_numbers)]
        if todo:
            console = Console(stderr=True, highlight=False)

            def done() -> int:
                return sum(store.knows(name, points, wanted_numbers) for name in self.names)

            with self.says_what_is_kept(console, done):
                self._examine(store, estimators, todo, cases, numbers, constant, console)
        return self.usable(store)

    @contextmanager
    def says_what_is_kept(self, console: Console, done: Callable[[], int]) -> Iterator[None]:
        """After Ctrl-C, say how many images are `done`, and where their results are."""
        try:
            yield
        except KeyboardInterrupt:
            kept = f"kept in {self.out}: the same command resumes" if self.out else "lost, because there is no --out"
            console.print(f"interrupted: {done()} of {len(self.names)} images are done, and {kept}", soft_wrap=True)
            raise

    def each(self, store: Store, todo: list[str], examine: Callable[[str, Image], Record], title: str) -> list[str]:
        """Store the record that `examine` makes of each image in `todo`; return the names of all usable images.

        After Ctrl-C, finished results stay in the store.
        """
        console = Console(stderr=True, highlight=False)
        done = len(self.names) - len(todo)
        with self.says_what_is_kept(console, lambda: done), progress_bar(console) as progress:
            task = progress.add_task(title, total=len(todo))
            for name in todo:
                image = self.photographs.read(name)
                unusable = Record(skipped=self.photographs.skipped.get(name))
                store.add(name, unusable if image is None else examine(name, image))
                progress.advance(task)
                done += 1
        return self.usable(store)

    def usable(self, store: Store) -> list[str]:
        """Return the names of the images that could be used; UsageError if there are none."""
        skipped = store.skipped(self.names)
        usable = [name for name in self.names if name not in skipped]
        if not usable:
            raise UsageError(
                f"none of the {len(skipped)} images can be used; the first: {next(iter(skipped.values()))}"
            )
        return usable

    def _examine(
        self,
        store: Store,
        estimators: list[str],
        todo: list[str],
        cases: Callable[[Subject], Iterable[Case]],
        numbers: Callable[[Subject], dict[str, float]],
        constant: Iterable[bytes],
        console: Console,
    ) -> None:
        with progress_bar(console) as progress:
            task = progress.add_task("loading the network", total=len(todo))
            scorer, model, weights = load_network(estimators, self.cut, self.grid, self.seed)
            store.vouch({"the weights": weights, **scorer.fingerprints})
            tuned = load_tuned(self.cut, self.backend) if self.backend else None
            engine = Engine(store, scorer, tuned or model, cases, numbers, constant, tuned and model)
            progress.reset(task, description="running the back-end")
            engine.run(self.photographs, todo, lambda share: progress.advance(task, share), self.truth)


def load_network(estimators: list[str], cut: Cut, grid: PacketGrid, seed: int) -> tuple[Scorer, Model, str]:
    """Load front-end with estimators and back-end; also return how the weights were verified. Takes seconds."""
    from gradfec_host.weights import ensure_weights
    from gradfec_host.weights.progress import show_progress

    with show_progress() as progress:
        weights = ensure_weights(cut.network, None, progress)
    from gradfec_cli.scores import Scores
    from gradfec_lab.answers import fastest_answers

    return Scores(estimators, cut, grid, weights, seed), fastest_answers(cut, weights), weights.verification.value


def load_tuned(cut: Cut, file: BackEndFile) -> Model:
    """Load a tuned back-end, and the network's weights for what is not tuned; GradfecError if they cannot be had."""
    from gradfec_host.weights import ensure_weights
    from gradfec_lab.answers import fastest_answers

    return fastest_answers(cut, TunedWeights(file, cut.network, ensure_weights(cut.network)))


def progress_bar(console: Console, of: str = "images") -> Progress:
    """Return a progress bar that counts images, or what `of` names, with the time left by the last ten minutes."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(f"{of}, elapsed"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, speed_estimate_period=600)


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every sweep to a command, and pass it a Study as its first argument."""

    @click.option("--images", required=True, type=click.Path(path_type=Path), help="Folder of images.")
    @click.option("--labels", type=click.Path(path_type=Path), help="CSV of file name and class index, for top-1.")
    @click.option("--limit", type=click.IntRange(1), help="Use this many images, the first by name. [default: all]")
    @click.option(
        "--sample", type=click.IntRange(1), help="Use this many of these, drawn with the seed. [default: all]"
    )
    @click.option("--split", default=DEFAULT_CUT, metavar="LAYER", help="Where the network is cut.")
    @click.option("--rows", default=DEFAULT_ROWS, type=click.IntRange(1), help="Rows of a channel in each packet.")
    @click.option("--seed", default=1, type=click.IntRange(min=0), help="Seed for all random draws.")
    @click.option(
        "--out", type=click.Path(path_type=Path), help="Folder for answers, tables and figures; a run resumes there."
    )
    @functools.wraps(command)
    def run(
        images: Path,
        labels: Path | None,
        limit: int | None,
        sample: int | None,
        split: str,
        rows: int,
        seed: int,
        out: Path | None,
        **own: Any,
    ) -> None:
        cut = named_cut(split)
        grid = PacketGrid(cut.shape, rows, cut.pixels)
        photographs = Photographs(images, cut.network.preprocess, limit)
        if sample is not None and sample < len(photographs.names):
            drawn = np.random.default_rng(seed).choice(len(photographs.names), sample, replace=False)
            photographs.names = [photographs.names[i] for i in np.sort(drawn)]
        truth = None if labels is None else labels_of(labels, photographs.names, cut.network.output.shape[-1])
        if out is not None and out.exists() and not out.is_dir():
            raise UsageError(f"{out} is not a folder: --out takes a folder, and creates it if needed")
        command(Study(photographs, truth, cut, grid, seed, out), **own)

    return run


def back_end_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that puts another back-end in the study. It goes below `study_options`."""

    @click.option(
        "--backend",
        metavar="NAME",
        help="Back-end that answers: lossy, or a file made by gradfec train-backend. Agreement is with the answers of "
        "the network as it is.",
    )
    @functools.wraps(command)
    def run(study: Study, backend: str | None, **own: Any) -> None:
        tuned = chosen_back_ends(backend, [study.cut])[study.cut] if backend else None
        command(replace(study, backend=tuned), **own)

    return run


def learned_fingerprints(cut: Cut) -> dict[str, str]:
    """Return digests of a cut's learned arrays, by name."""
    return {
        f"what was learned of the cut, {name}": hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]
        for name, array in learned_for(cut).items()
    }


def command_line() -> str:
    """Return the command line, quoted for a shell."""
    return shlex.join(["gradfec", *sys.argv[1:]])
