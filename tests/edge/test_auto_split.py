"""--split auto: what a session is prepared for, and which way each frame goes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.onnx_files import SIDE
from tests.split_tables import DEEP, EARLY, LATE, NAME, save, small_model
from tests.split_tables import FAST as PLANNED

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT
from gradfec_common.protect import LinkEstimate
from gradfec_common.protect.link import UNKNOWN_LINK, Losses
from gradfec_common.splits import CHANGES_AFTER_S, Conditions, Wanted, expected
from gradfec_common.wire import MAX_FORMS
from gradfec_common.wire.symbol import read_headers
from gradfec_edge.auto_split import AutoSplit, in_words, prepare
from gradfec_edge.camera_setup import CameraSetup, options_of
from gradfec_edge.cameras import front_ends, sessions_of
from gradfec_edge.cli import main
from gradfec_host.logs import Log
from gradfec_host.models.store import FRONT, export_half, open_model, take_folder
from gradfec_host.split_table import SplitTable, table_path

FRAME = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def link(bits_per_s: float) -> LinkEstimate:
    return LinkEstimate(((1.0, Losses(0.002, 1.0)),), bits_per_s=bits_per_s, round_trip_s=0.02)


FAST, SLOW = link(5e7), link(1e5)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SplitTable:
    """The table of the small network, saved."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    made = small_model(tmp_path)
    save(made)
    return made


def settings(**given: object) -> dict[str, Any]:
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9"])
    return {**context.params, "model": NAME, "split": "auto", "insecure": True, **given}


def setup_of(**given: object) -> CameraSetup:
    return CameraSetup(options_of(settings(**given)))


def test_a_session_has_a_form_for_each_place_that_some_link_is_best_served_from() -> None:
    of = setup_of()
    cuts = [cut.name for cut, _ in of.forms]
    assert 2 <= len(cuts) <= MAX_FORMS
    assert {"stem", "logits"} <= {*cuts}
    for design in of.designs:
        assert of.forms[design.coding.form] == (design.coding.cut, design.coding.grid.rows)
        assert design.coding.policy.name == "auto"
    (session,) = sessions_of([settings()], Log("gradfec-edge"))
    assert len(session.hello.also) == len(cuts) - 1


def test_each_frame_goes_the_way_that_suits_the_link_and_says_its_form() -> None:
    (session,) = sessions_of([settings()], Log("gradfec-edge"))
    said: list[str] = []
    of = session.setup
    assert of.prepared is not None
    now = [0.0]
    choose = AutoSplit(of.prepared, None, said.append, lambda: now[0])
    loaded = front_ends([session], "", {one.coding.cut.network: open_model(NAME) for one in of.designs})
    others = [one.pipeline(loaded[one.graph]) for one in of.others]
    work = of.design.pipeline(loaded[of.design.graph], others, choose)
    work.allow(frozenset(range(len(of.forms))))
    cuts = []
    for second in range(80):
        now[0] = float(second)
        encoded, _ = work.encode(FRAME, FAST if second < 20 else SLOW)
        assert (read_headers(encoded.unnumbered)["form"] == encoded.form).all()
        cut, rows = of.forms[encoded.form]
        assert (encoded.grid.shape, encoded.grid.rows) == (cut.shape, rows)
        cuts.append(cut.name)
    change = 20 + int(CHANGES_AFTER_S)
    assert {*cuts[:change]} == {"stem"}
    assert {*cuts[change:]} == {"logits"}
    assert len(said) == 2
    assert "uniform8 at logits" in said[1] and "0.1 Mbit/s" in said[1]


def test_ways_whose_forms_the_cloud_does_not_take_are_not_used() -> None:
    of = setup_of()
    assert of.prepared is not None
    ways = {design: way for way, design in of.prepared.designs.items()}
    said: list[str] = []
    choose = AutoSplit(of.prepared, None, said.append)
    pipelines = {ways[one]: one.pipeline(None) for one in of.designs}  # type: ignore[arg-type]
    assert choose([*pipelines.values()], FAST) is pipelines[EARLY]
    for _ in range(3):
        assert choose([pipelines[LATE]], FAST) is pipelines[LATE]
    assert [line for line in said if "this cloud does not serve deep, stem" in line] == said[1:2]


def test_before_the_first_report_it_says_the_links_values_of_the_plan() -> None:
    of = setup_of()
    assert of.prepared is not None
    said: list[str] = []
    choose = AutoSplit(of.prepared, None, said.append)
    choose([one.pipeline(None) for one in of.designs], UNKNOWN_LINK)  # type: ignore[arg-type]
    (line,) = said
    assert "for 50 Mbit/s, 0.0 % lost and 20 ms there and back: the fastest of those that keep 95 %" in line


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted(), "the fastest of those that keep 95 % of the answers"),
        (Wanted("bytes", 0.975), "the smallest of those that keep 97.5 % of the answers"),
        (
            Wanted("energy", interval_s=1.0),
            "the least work for the edge of those that keep 95 % of the answers and keep",
        ),
        (Wanted(interval_s=1e-6), "the fastest of those that keep 95 % of the answers"),
        (Wanted(min_agreement=1.01), "none keeps 101 % of the answers"),
    ],
)
def test_the_line_says_why_a_way_is_chosen(wanted: Wanted, why: str) -> None:
    said = in_words(expected(EARLY, PLANNED), PLANNED, wanted).partition(": ")[2]
    assert said.removesuffix(" up with the frames") == why


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"codec": "webp"}, "codec"),
        ({"protect": "FEC_20_80"}, "protect"),
        ({"rows": 2}, "rows"),
        ({"importance": "activation"}, "importance"),
        ({"bytes_per_frame": 5000}, "bytes-per-frame"),
        ({"mode": "paper", "codec": None}, "mode"),
        ({"second_look": 0.5}, "second-look"),
    ],
)
def test_an_option_that_the_plan_decides_is_refused(given: dict[str, object], option: str) -> None:
    with pytest.raises(UsageError, match=f"leave --{option} out"):
        setup_of(**given)


def test_that_there_is_to_be_no_second_look_is_no_contradiction() -> None:
    assert setup_of(second_look=0.0).look is None


def test_without_measurements_the_error_names_the_command_that_makes_them(table: SplitTable) -> None:
    table_path(table.network).unlink()
    with pytest.raises(UsageError, match=f"run gradfec plan --model {NAME} --link RATE,LOSS,RTT --images DIR --save"):
        setup_of()
    with pytest.raises(UsageError, match="measured splits of resnet50"):
        setup_of(model=None)


def test_a_file_of_measurements_counts_before_those_that_were_saved(table: SplitTable, tmp_path: Path) -> None:
    replace(table, ways=(DEEP,)).write(tmp_path / "mine.json")
    assert [cut.name for cut, _ in setup_of(plan=tmp_path / "mine.json").forms] == ["deep"]


def test_measurements_of_another_version_of_the_model_are_refused(table: SplitTable) -> None:
    path = table_path(table.network)
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "00" * 16}))
    with pytest.raises(UsageError, match=f"measured with another version of {NAME}"):
        setup_of()


def test_an_edge_with_one_half_and_no_measurements_is_told_to_bring_them_from_where_the_model_is_whole(
    tmp_path: Path,
) -> None:
    whole = open_model(NAME)
    export_half(whole, FRONT, whole.network.cut("deep"), tmp_path / "half")
    take_folder(tmp_path / "half", "half")
    told = (
        "where the whole model is, run gradfec plan --model half --link RATE,LOSS,RTT --images DIR --out plan.json, "
        "and give --plan plan.json here"
    )
    with pytest.raises(UsageError, match=told):
        setup_of(model="half")


def test_an_edge_with_one_half_alone_uses_that_and_one_without_a_measured_half_says_so(tmp_path: Path) -> None:
    whole = open_model(NAME)
    export_half(whole, FRONT, whole.network.cut("deep"), tmp_path / "half")
    half = take_folder(tmp_path / "half", "half")
    table = SplitTable(half.network, Conditions(1e6, 0.0, 0.0), prepare(whole.network, None, "zfec").table.wanted, ())
    for ways, cuts in (((EARLY, DEEP, LATE), ["deep"]), ((EARLY, LATE), None)):
        save(replace(table, ways=ways))
        if cuts:
            assert [cut.name for cut, _ in setup_of(model="half").forms] == cuts
        else:
            with pytest.raises(GradfecError, match="is not here for any cut that was measured"):
                setup_of(model="half")


def test_the_settings_name_all_splits() -> None:
    options = options_of(settings())
    said = CameraSetup(options).settings(options)
    assert str(said["split"]).startswith("auto: ") and "stem" in str(said["split"]) and "logits" in str(said["split"])
    assert said["split"] != DEFAULT_CUT


def test_a_table_survives_being_written(table: SplitTable) -> None:
    assert SplitTable.read(table_path(table.network)).packed() == table.packed()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "ways": []}'])
def test_a_damaged_table_is_one_clear_line(table: SplitTable, content: str) -> None:
    table_path(table.network).write_text(content)
    with pytest.raises(GradfecError, match=r"^[^\n]*splits\.json [^\n]*$"):
        setup_of()
