"""Tables of measured splits: beside the model they are of, or a file that the user names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import NETWORKS, Network
from gradfec_common.splits import GOALS, Conditions, Kept, Wanted, Way
from gradfec_host.models.find import network_called
from gradfec_host.models.store import models_folder, open_model
from gradfec_host.places import settings_folder
from gradfec_host.short_files import read_short
from gradfec_host.writing import writing

FORMAT = 1
FILE = "splits.json"  # in a model's folder


@dataclass(frozen=True)
class SplitTable:
    """The measured ways to split a network, the link that they were planned for, and what the user wants."""

    network: Network
    link: Conditions
    wanted: Wanted
    ways: tuple[Way, ...]

    def packed(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "format": FORMAT,
            "model": self.network.name,
            "digest": self.network.digest.hex(),
            "link": self.link._asdict(),
            "goal": self.wanted.goal,
            "min_agreement": self.wanted.min_agreement,
            "ways": [{**asdict(way), "kept": [kept._asdict() for kept in way.kept]} for way in self.ways],
        }

    def write(self, path: Path) -> None:
        """Write it, completely or not at all; GradfecError if that fails."""
        partial = path.with_name(f"{path.name}.part")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.packed(), indent=1), "utf-8")
            partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> SplitTable:
        """Read a table; GradfecError if it cannot be read, UsageError if it is of another model than is here."""
        said = read_json(path)
        try:
            if said["format"] != FORMAT:
                raise ValueError(f"format {said['format']!r}")
            link = Conditions(**{name: float(value) for name, value in said["link"].items()})
            wanted = Wanted(str(said["goal"]), float(said["min_agreement"]))
            ways = tuple(map(_way, said["ways"]))
            if wanted.goal not in GOALS or not ways or link.bits_per_s <= 0:
                raise ValueError("nothing to choose from")
            model, digest = str(said["model"]), str(said["digest"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GradfecError(f"{path} is not a table of splits ({error}): run gradfec plan again") from None
        return cls(checked_network(path, model, digest), link, wanted, ways)


def table_path(network: Network) -> Path:
    """Return where a network's table is."""
    if network.name in NETWORKS:
        return settings_folder() / "splits" / f"{network.name}.json"
    return models_folder() / network.name / FILE


def table_of(network: Network, path: Path | None = None) -> SplitTable:
    """Return a network's table, from a file if one is named; UsageError if there is none, or it is of another one."""
    if path is None and not table_path(network).is_file():
        raise UsageError(f"--split auto needs measured splits of {network.name}: {_how_to_measure(network)}")
    table = SplitTable.read(path or table_path(network))
    if table.network is not network:
        raise UsageError(f"{path} is of the model {table.network.name}, not of {network.name}")
    return table


def _how_to_measure(network: Network) -> str:
    command = f"gradfec plan --model {network.name} --link RATE,LOSS,RTT --images DIR"
    if network.name in NETWORKS or open_model(network.name).is_whole:
        return f"run {command} --save"
    return f"where the whole model is, run {command} --out plan.json, and give --plan plan.json here"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; GradfecError if it cannot be read, or is none."""
    try:
        said = json.loads(read_short(path))
    except OSError as error:
        raise GradfecError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise GradfecError(f"{path} is not JSON") from None
    if not isinstance(said, dict):
        raise GradfecError(f"{path} is not a JSON object")
    return said


def checked_network(path: Path, model: str, digest: str) -> Network:
    """Return the network that a file is about; UsageError if the one here is another version."""
    network = network_called(model)
    if network.digest.hex() != digest:
        raise UsageError(
            f"{path} was measured with another version of {model} ({digest[:8]}, here is {network.digest.hex()[:8]}): "
            "measure again"
        )
    return network


def _way(said: Mapping[str, Any]) -> Way:
    kept = tuple(sorted(Kept(*(float(one[name]) for name in Kept._fields)) for one in said["kept"]))
    quality = None if said["quality"] is None else int(said["quality"])
    if not kept:
        raise ValueError("a split without a loss")
    return Way(str(said["cut"]), str(said["codec"]), quality, float(said["edge_s"]), float(said["cloud_s"]), kept)
