"""Codecs as the product runs them: a bottleneck, quantisers or image files, each over a range of qualities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gradfec_common.networks import Cut, full_name
from gradfec_common.quantisers import QUANTISERS, Quantiser, chosen_quantiser
from gradfec_common.quantisers.image import AVIF, FORMATS
from gradfec_common.quantisers.laplace import Laplace
from gradfec_edge.coding import BOTTLENECK, Coding, codec_file, coding_of
from gradfec_host.codec_file import SUFFIX
from gradfec_host.quality import QUALITIES
from gradfec_lab.sweep.report import text

IMAGE_QUALITIES = (2, 5, 10, 20, 30, 50, 75, 90)
AVIF_QUALITIES = (20, 30, 40, 50, 60, 70, 80, 90)  # which take about as many bytes
FAMILIES = ("sqrt", "uniform")  # of quantisers, which differ in their bits
FORMAT_NAMES = [format.name for format in FORMATS]


@dataclass(frozen=True)
class Codec:
    """A codec by its name, the edge's coding for it without protection, and its quantisers by setting."""

    name: str
    coding: Coding
    quantisers: Mapping[str, Quantiser]

    @property
    def place(self) -> str:
        """The cut and its packets: codecs of the same place have the same ends."""
        return f"{full_name(self.coding.cut)}, {self.coding.grid.rows} rows"

    @property
    def settings(self) -> list[str]:
        """The names of the settings."""
        return [*self.quantisers]

    def at(self, setting: str) -> Coding:
        """Return the coding with one of the settings."""
        return replace(self.coding, quantiser=self.quantisers[setting])


def make_codec(name: str, cut: Cut, rows: int, qualities: Iterable[float] | None = None) -> Codec:
    """Return the codec of that name for a network that is cut there; UsageError if there is none.

    A bottleneck (`bottleneck` or FILE.npz) sits at the cut, and a picture (`jpeg`) at the network's input. `qualities`
    replaces the usual ones of both. `sqrt` and `uniform` have a setting for each number of bits, and any other name is
    a single setting.
    """
    if name == BOTTLENECK or name.endswith(SUFFIX):
        file = codec_file(name, cut)
        assert file is not None, "a bottleneck has a file"  # noqa: S101
        steps = {f"quality {text(float(q))}": Laplace(file.step(q)) for q in qualities or QUALITIES}
        return Codec(name, coding_of(cut, None, name, "none", "zfec"), steps)
    if name.partition(":")[0] in FORMAT_NAMES:
        cut = cut.network.cut(cut.network.input.name)
        usual = AVIF_QUALITIES if name == AVIF.name else IMAGE_QUALITIES
        settings = [f"{name}:{q:g}" for q in qualities or usual] if name in FORMAT_NAMES else [name]
        return Codec(name, coding_of(cut, None, settings[0], "none", "zfec"), named(settings, cut))
    settings = [q.name for q in QUANTISERS.values() if name in FAMILIES and q.name.startswith(name) and q.fits(cut)]
    settings = settings or [chosen_quantiser(name, cut).name]
    return Codec(name, coding_of(cut, rows, settings[0], "none", "zfec"), named(settings, cut))


def named(settings: Iterable[str], cut: Cut) -> dict[str, Quantiser]:
    """Return quantisers by their names."""
    return {setting: chosen_quantiser(setting, cut) for setting in settings}
