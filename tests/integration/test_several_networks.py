"""Real daemons with two networks, one of which the tests add: each edge is answered by the head of its own."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.common.networks.toy import TOY, back_end, front_end

from gradfec_cli.daemons import free_port

from .endings import ended, is_one_clear_line
from .toy_daemons import toy_daemon

pytestmark = pytest.mark.daemons
TOY_EDGE = (
    "--split",
    "toy:mix",
    "--rows",
    "2",
    "--codec",
    "uniform8",
    "--importance",
    "activation",
    "--protect",
    "none",
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of the size that the toy takes, so that nothing is resized."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(np.random.default_rng(4).integers(0, 256, (3, 8, 8, 3), np.uint8)):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_cloud_serves_edges_of_two_networks_at_once(pictures: Path, tmp_path: Path) -> None:
    port = free_port()
    served = ["--split", "conv2_block1_add,toy:mix", "--results", tmp_path / "cloud.jsonl"]
    where = ["--camera", pictures, "--cloud", f"127.0.0.1:{port}"]
    with (
        toy_daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *served, ready="listening on"),
        toy_daemon("gradfec-edge", *where, *TOY_EDGE, "--results", tmp_path / "toy.jsonl", "--name", "toy") as toy,
        toy_daemon(
            "gradfec-edge", *where, "--importance", "activation", "--results", tmp_path / "cats.jsonl", "--name", "cats"
        ) as cats,
    ):
        assert [ended(edge)[0] for edge in (toy, cats)] == [0, 0]
    for record in records(tmp_path / "toy.jsonl"):
        image = cv2.imread(str(pictures / str(record["source"])))
        x, y, sure = back_end(front_end(image[..., ::-1])[np.newaxis])[0]
        assert (record["head"], record["outcome"]) == ("point", "complete")
        assert np.allclose([*record["at"], record["sure"]], [x, y, sure], atol=0.05)  # type: ignore[misc]
    for record in records(tmp_path / "cats.jsonl"):
        assert record["head"] == "classify"
        assert record["top5"][0]["label"] == "tabby"  # type: ignore[index]
    heads = {(record["edge"], record["head"]) for record in records(tmp_path / "cloud.jsonl")}
    assert heads == {("toy", "point"), ("cats", "classify")}


def test_an_edge_of_a_network_that_the_cloud_does_not_have_is_told_which_it_has(pictures: Path) -> None:
    port = free_port()
    where = ["--camera", pictures, "--cloud", f"127.0.0.1:{port}"]
    with (
        toy_daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", ready="listening on"),
        toy_daemon("gradfec-edge", *where, *TOY_EDGE) as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    asked = TOY.digest.hex()[:8]
    assert is_one_clear_line(said, "this cloud has resnet50 (2a137137) at conv2_block1_add, input_layer and "), said
    assert is_one_clear_line(said, f" at encoder_quarter; the edge asked for model {asked}"), said
    assert is_one_clear_line(said, "; this edge has toy: start the cloud with --model toy"), said
