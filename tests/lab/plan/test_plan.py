"""gradfec plan, with a small network that is exported to ONNX: what is compared, measured, chosen, and said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.split_tables import NAME, small_model

from gradfec_cli.cli import main
from gradfec_common.networks.imported import Imported
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.splits import Conditions, Kept, Wanted, Way, ranked
from gradfec_host.split_table import SplitTable, table_path
from gradfec_lab.plan.candidates import candidate_cuts, candidates
from gradfec_lab.plan.measure import EdgeHalf, disturbed
from gradfec_lab.plan.report import SLOW, drawing, grid, sentence
from gradfec_lab.sweep import report

SIDE, PICTURES = 48, 4
LINKS = ("--link", "2,5%,40", "--link", "0.2,20%,80")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module", autouse=True)
def network(folder: Path) -> Iterator[Imported]:
    """The network, added to the models of a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADFEC_HOME", str(folder))
        network = small_model(folder).network
        assert isinstance(network, Imported)
        yield network


@pytest.fixture(scope="module")
def images(folder: Path, network: Imported) -> Path:
    """Pictures, one of which cannot be read."""
    made = folder / "images"
    made.mkdir()
    for number, image in enumerate(np.random.default_rng(4).integers(0, 256, (PICTURES, SIDE, SIDE, 3), np.uint8)):
        cv2.imwrite(str(made / f"{number}.png"), cv2.GaussianBlur(image, (9, 9), 0))
    (made / "broken.png").write_bytes(b"nothing")
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def made(images: Path, folder: Path) -> dict[str, Any]:
    """One plan for two links, with all files that it can write."""
    files = ("--save", "--out", folder / "out.json", "--figure", folder / "figure.png")
    done = run("plan", "--model", NAME, *LINKS, "--images", images, "--min-agreement", 0.5, *files, "--json")
    assert done.exit_code == 0, done.output
    assert "broken.png is not an image that can be read" in done.stderr
    assert f"{PICTURES} photographs are few: a single answer counts {1 / PICTURES:.0%}" in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_cuts_of_a_network_with_blocks_are_where_they_end_the_first_and_last_of_each_shape() -> None:
    names = [cut.name for cut in candidate_cuts(RESNET50)]
    assert (names[0], names[-1]) == ("input_layer", "avg_pool")
    assert "conv2_block1_add" in names  # there is a bottleneck for it
    assert {"conv3_block1_out", "conv3_block4_out", "conv4_block1_out", "conv4_block6_out"} <= {*names}
    assert not {"conv3_block2_out", "conv4_block3_out", "conv4_block2_2_relu"} & {*names}


def test_pictures_are_compared_at_the_input_features_elsewhere_and_bottlenecks_where_there_are_some() -> None:
    found = [(one.cut.name, one.codec) for one in candidates(RESNET50)]
    assert {codec.partition(":")[0] for cut, codec in found if cut == "input_layer"} == {"avif", "jpeg"}
    assert {codec for cut, codec in found if cut == "conv3_block1_out"} == {"sqrt4", "local5", "local6", "local8"}
    assert "bottleneck" in {codec for cut, codec in found if cut == "conv2_block1_add"}


def test_of_an_imported_network_the_cuts_where_it_narrows_are_compared_and_all_on_the_edge(network: Imported) -> None:
    cuts = candidate_cuts(network)
    assert {*network.narrowing} <= {*cuts}
    assert (cuts[0].name, cuts[-1].name) == ("image", "logits")


def test_every_way_has_times_bytes_and_agreement_over_each_link(made: dict[str, Any], network: Imported) -> None:
    assert (made["model"], made["images"], len(made["plans"])) == (NAME, PICTURES, 2)
    expected = {(one.cut.name, one.codec) for one in candidates(network)}
    for of in made["plans"]:
        assert {(way["cut"], way["codec"]) for way in of["ways"]} == expected
        for way in of["ways"]:
            assert way["edge_ms"] > 0 and way["cloud_ms"] > 0 and way["bytes"] > 100
            assert 0 <= way["agreement"] <= 1
            parts = way["edge_ms"] + way["link_ms"] + way["cloud_ms"]
            assert way["latency_ms"] == pytest.approx(parts, abs=0.01)
            sending_ms = 1000 * 8 * way["bytes"] / of["link"]["bits_per_s"]
            assert way["link_ms"] == pytest.approx(sending_ms + 1000 * of["link"]["round_trip_s"], abs=0.1)
        assert of["choice"] == of["ways"][0]
    bytes_of = [{(way["cut"], way["codec"]): way["bytes"] for way in of["ways"]} for of in made["plans"]]
    assert sum(bytes_of[1].values()) > sum(bytes_of[0].values())  # more is lost, so there is more parity


def test_nearly_nothing_is_lost_of_what_the_whole_network_says(made: dict[str, Any]) -> None:
    kept = {(way["cut"], way["codec"]): way["agreement"] for way in made["plans"][0]["ways"]}
    assert kept["logits", "local8"] == 1.0


def test_what_was_measured_is_kept_with_the_model_and_in_the_file(
    made: dict[str, Any], folder: Path, network: Imported
) -> None:
    saved = SplitTable.read(table_path(network))
    assert saved.packed() == SplitTable.read(folder / "out.json").packed()
    assert saved.link == Conditions(2e6, 0.05, 0.04)
    assert (saved.wanted.goal, saved.wanted.min_agreement) == ("latency", 0.5)
    assert {kept.loss for kept in saved.ways[0].kept} >= {0.0, 0.05, 0.2, 0.3}
    best = ranked(saved.ways, saved.link, Wanted("latency", 0.5, 0.2))[0].way
    assert (best.cut, best.codec) == (made["plans"][0]["choice"]["cut"], made["plans"][0]["choice"]["codec"])


def test_the_figure_is_a_picture_of_both_links(made: dict[str, Any], folder: Path) -> None:
    figure = cv2.imread(str(folder / "figure.png"))
    assert figure is not None and figure.shape[1] > 1000


def test_in_the_figure_the_bars_of_ways_that_are_too_slow_are_hatched() -> None:
    fast = Way("pool", "uniform6", None, 0.05, 0.01, (Kept(0.0, 1250.0, 0.975),))
    slow = Way("stem", "uniform6", None, 0.30, 0.01, (Kept(0.0, 1250.0, 0.975),))
    drawn = drawing("plain", [fast, slow], [Conditions(1e6, 0.0, 0.04)], Wanted(interval_s=0.2))
    times = drawn.axes[0]
    legend = times.get_legend()
    assert [bar.get_hatch() for bars in times.containers for bar in bars] == ["", SLOW] * 3
    assert legend is not None and legend.get_texts()[-1].get_text() == "too slow for 5 frames/s"


def test_a_cut_whose_layers_take_less_than_a_part_of_them_tells_that_the_machine_was_busy() -> None:
    assert disturbed({"image": 0.0, "stem": 0.010, "deep": 0.009, "logits": 0.040}) == ""
    assert disturbed({"image": 0.0, "stem": 0.0015, "deep": 0.0008}) == ""  # too short to tell
    assert disturbed({"image": 0.0, "stem": 0.030, "deep": 0.012, "logits": 0.040}) == (
        "the layers up to deep took 12 ms, and those up to stem, a part of them, 30 ms: this machine was busy with "
        "something else, so measure again"
    )


def test_times_that_contradict_each_other_are_told_when_a_plan_was_measured(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EdgeHalf.features

    def slow(self: EdgeHalf, picture: Any) -> Any:
        found = plain(self, picture)
        self.layers_s[-1] += 5.0 * (found[0].chi.shape[2] == 3)  # the picture itself
        return found

    monkeypatch.setattr(EdgeHalf, "features", slow)
    done = run("plan", "--model", NAME, "--link", "2,5%,40", "--images", images, "--limit", 2)
    assert done.exit_code == 0, done.output
    assert "those up to image, a part of them, 5" in done.stderr and "so measure again" in done.stderr


def test_times_of_another_edge_replace_those_of_this_machine(images: Path, folder: Path) -> None:
    done = run("bench", "splits", "--model", NAME, "--images", images, "--out", folder / "edge.json")
    assert done.exit_code == 0, done.output
    assert "logits" in done.stdout
    there = json.loads((folder / "edge.json").read_text())
    for way in there["ways"]:
        way["edge_s"] = 7.0 if way["cut"] == "image" else 3.0
    (folder / "edge.json").write_text(json.dumps(there))
    plan = ("plan", "--model", NAME, "--link", "2,0,40", "--images", images, "--edge", folder / "edge.json", "--json")
    found = json.loads(run(*plan).stdout)["plans"][0]
    assert {way["edge_ms"] for way in found["ways"]} == {7000.0, 3000.0}
    assert not any(way["in_time"] for way in found["ways"])
    assert "5 frames/s do not pass, 0.33 do" in found["why"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "nobody", "--link", "2,5%,40"), "no model is called 'nobody'"),
        (("--model", NAME, "--link", "2,5%"), "is not Mbit/s, a share that is lost, and ms"),
        (("--model", NAME, "--link", "0,5%,40"), "'0' is not a number of Mbit/s"),
        (("--model", NAME, "--link", "2,100%,40"), "nothing passes a link that loses all"),
        (("--model", NAME, "--link", "2,5%,40", "--edge", "nowhere.json"), "cannot read nowhere.json"),
        (("--model", NAME, "--link", "2,5%,40", "--goal", "beauty"), "'beauty' is not one of"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(arguments: tuple[str, ...], words: str, images: Path) -> None:
    done = run("plan", *arguments, "--images", images)
    assert done.exit_code in (1, 2)
    assert words in done.output.splitlines()[-1], done.output


def test_times_of_another_network_are_refused(images: Path, folder: Path) -> None:
    (folder / "other.json").write_text(json.dumps({"model": NAME, "digest": "00" * 16, "ways": []}))
    done = run("plan", "--model", NAME, "--link", "2,5%,40", "--images", images, "--edge", folder / "other.json")
    assert "measured with another version of plain" in done.output.splitlines()[-1]


def test_at_80_columns_the_table_breaks_no_name_of_a_usual_length(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(report, "WIDTH_OF_FILES", 80)
    ways = [Way("block11.out", "auto", 3, 0.05, 0.01, (Kept(0.0, 12_345.0, agreement),)) for agreement in (0.975, 0.5)]
    link, wanted = Conditions(1e6, 0.0, 0.04), Wanted("latency", 0.9, 0.01)
    grid(ranked(ways, link, wanted), link, wanted, None).show()
    printed = capsys.readouterr().out
    assert printed.count("block11.out") == 2
    assert "but" in printed and "differs, too" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_sentence_says_why_and_what_is_missing() -> None:
    link = Conditions(1e6, 0.0, 0.04)
    good = Way("pool", "uniform6", None, 0.05, 0.01, (Kept(0.0, 1250.0, 0.975),))
    poor = Way("stem", "uniform8", None, 0.01, 0.01, (Kept(0.0, 1250.0, 0.5),))
    said = sentence(ranked([good, poor], link, Wanted()), Wanted(), 40)
    assert said == (
        "uniform6 at pool: 110 ms (edge 50, link 50, cloud 10), 1.2 kB, 98% of the answers to 40 photographs as "
        "uncut; the fastest of the 1 of 2 that keep 95%"
    )
    often = Wanted(interval_s=0.2)
    slow = sentence(ranked([good], Conditions(1e4, 0.0, 0.0), often), often, 40)
    assert "but the link needs 1,000 ms a frame: 5 frames/s do not pass, 1 do; the cloud must wait for a whole" in slow
    assert slow.endswith("--deadline-ms 1200")
    strict = Wanted(min_agreement=0.99)
    assert sentence(ranked([good, poor], link, strict), strict, 40).endswith(
        "none keeps 99% over this link, and this one keeps most"
    )
