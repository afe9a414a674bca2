"""What each split takes of another machine's edge: a file, made there by `gradfec bench splits`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Network
from gradfec_common.splits import Way
from gradfec_host.split_table import checked_network, read_json
from gradfec_lab.plan.candidates import Candidate

Times = dict[tuple[str, str, int | None], float]  # seconds by cut, codec and quality


def edge_file(
    network: Network, found: Sequence[Candidate], seconds: Sequence[float], machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the content for JSON: the seconds that each candidate takes of this `machine`."""
    ways = [
        {"cut": one.cut.name, "codec": one.codec, "quality": one.quality, "edge_s": round(second, 6)}
        for one, second in zip(found, seconds, strict=True)
    ]
    return {"model": network.name, "digest": network.digest.hex(), "machine": machine, "ways": ways}


def read_edge_file(path: Path, network: Network) -> Times:
    """Read the times; GradfecError if they cannot be read, UsageError if they are of another model or version."""
    said = read_json(path)
    try:
        there = checked_network(path, str(said["model"]), str(said["digest"]))
        times = {
            (str(one["cut"]), str(one["codec"]), one["quality"] and int(one["quality"])): float(one["edge_s"])
            for one in said["ways"]
        }
    except (KeyError, TypeError, ValueError):
        raise GradfecError(f"{path} has no times of an edge: make it there with gradfec bench splits") from None
    if there is not network:
        raise UsageError(f"{path} is of the model {there.name}, not of {network.name}")
    return times


def with_times(path: Path, ways: Sequence[Way], times: Times) -> list[Way]:
    """Return the ways with another edge's times; UsageError if one of them was not measured there."""
    missing = [way.name for way in ways if (way.cut, way.codec, way.quality) not in times]
    if missing:
        raise UsageError(f"{path} lacks {missing[0]}, and {len(missing) - 1} more: measure again with this version")
    return [replace(way, edge_s=times[way.cut, way.codec, way.quality]) for way in ways]
