"""`gradfec bench packet-path`, run once: every stage is timed, and what went in comes out. No time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_common.codes import BARE, CODES
from gradfec_common.codes.zfec_code import ZfecCode
from gradfec_common.decode import DecodedTensor, decode_tensor
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UnequalProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_edge.coding import Coding
from gradfec_host.runtimes import LITERT
from gradfec_lab.bench import packet_path
from gradfec_lab.bench.packet_path import CLOUD, EDGE, OPEN, SEAL, PacketPath
from gradfec_lab.bench.udp import loopback


@pytest.fixture(autouse=True)
def _one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow would take as long to start as all else here."""
    monkeypatch.setattr("gradfec_lab.bench.models.installed", lambda: [LITERT])


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "packet-path", "--runs", "1", *arguments])


def test_json_has_every_stage_of_both_sides_for_every_code_and_their_sums() -> None:
    done = bench("--drop", "10", "--loss", "5", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {*said} == {
        *("machine", "drop_percent", "loss_percent", "rows", "runs", "codec", "packets_per_datagram"),
        *("packet_path", "fastest_ms", "ratios"),
    }
    assert (said["codec"], said["packets_per_datagram"]) == ("uniform8", "1")
    assert (said["drop_percent"], said["loss_percent"], said["runs"]) == (10, 5, 1)
    assert {*said["packet_path"]} == {code.name for code in CODES.values() if code is not BARE}
    for sides in said["packet_path"].values():
        for side, stages, beside in (("edge", EDGE, SEAL), ("cloud", CLOUD, OPEN)):
            assert [*sides[side]] == [*stages, "sum", beside]
            for unit in ("ms", "cpu_ms"):
                assert sides[side]["sum"][unit] == pytest.approx(sum(sides[side][stage][unit] for stage in stages))

    front_end, back_end = (said["fastest_ms"][part]["ms"] for part in ("front-end", "back-end"))
    sums = {name: {side: sides[side]["sum"]["ms"] for side in sides} for name, sides in said["packet_path"].items()}
    expected = {f"edge_path_{name}": sides["edge"] / front_end for name, sides in sums.items()}
    expected["cloud_path"] = min(sides["cloud"] for sides in sums.values()) / back_end
    assert said["ratios"] == pytest.approx(expected)


def test_the_table_has_a_row_for_every_stage() -> None:
    text = bench("--drop", "10", "--loss", "5").stdout
    assert "one tensor, FEC_10_90, 5 % lost, 7 rows, median of 1 runs" in text
    assert "uniform8, packets a datagram: 1" in text
    for stage in (
        *(f"edge: {stage}" for stage in EDGE),
        *(f"cloud: {stage}" for stage in CLOUD),
        "cloud: sum",
        "edge: seal, not in the sum",
        "cloud: open, not in the sum",
    ):
        assert stage in text


@pytest.mark.parametrize(("codec", "packets", "sent"), [("uniform8", 1, 2048), ("sqrt4", None, 410)])
@pytest.mark.parametrize(("loss", "lost"), [(0.0, False), (0.05, False), (0.6, True)])
def test_what_is_decoded_is_what_was_sent_less_what_was_lost_for_good(
    loss: float, lost: bool, codec: str, packets: int | None, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[DecodedTensor] = []
    monkeypatch.setattr(
        packet_path,
        "decode_tensor",
        lambda arrived, conceal, each: decoded.append(decode_tensor(arrived, conceal, each)),
    )
    cut = named_cut(DEFAULT_CUT)
    grid, quantiser = PacketGrid(cut.shape), QUANTISERS[codec]
    coding = Coding(cut, grid, quantiser, UnequalProtection(10, ZfecCode(256)), packets)
    plan = coding.trial_plan()
    assert plan is not None and plan.sent == sent
    with loopback(batched=True) as way:
        path = PacketPath(coding, loss, way, map)
        for _ in range(3):
            assert {*path.run()} == {*EDGE, *CLOUD, SEAL, OPEN}
    assert len(decoded) == 3
    assert all((tensor.missing > grid.count // 2) == lost for tensor in decoded)
    coded = quantiser.encode(path.chi, grid)
    whole = quantiser.decode(coded.packets, coded.parameters, grid).tensor
    received, there = grid.split(decoded[-1].tensor), np.zeros(grid.count, bool)
    there[decoded[-1].found.places] = True
    np.testing.assert_array_equal(received[there], grid.split(whole)[there])
    assert not received[~there].any()
