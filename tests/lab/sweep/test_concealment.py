"""`gradfec sweep concealment`: every concealment under the same losses, as the real path fills the gaps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_cloud.catalogue import Catalogue
from gradfec_cloud.decoding import Decoder
from gradfec_cloud.filling import in_time
from gradfec_common.delivery import packets_at_hand
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.transmit import encode_tensor
from gradfec_host.logs import Log
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.concealment_points import ConcealmentSweep, coding_for, estimate_of
from gradfec_lab.sweep.ends import received
from gradfec_lab.sweep.engine import Subject
from gradfec_lab.sweep.study import Study

from .toys import install, write_images

CUT = named_cut(DEFAULT_CUT)
GRID = PacketGrid(CUT.shape)
UNIFORM8 = QUANTISERS["uniform8"]
FILLS = ["zero", "mean", "neighbour", "altec", "caltec", "gaussian", "inpaint", "learned"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 2)
    return folder


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "concealment", *map(str, arguments)])


def test_it_reports_every_policy_fill_and_loss_and_the_milliseconds(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    options = ["--protect", "dfts,none,auto", "--burst", "iid,20", "--loss", "0.1,0.4", "--fill", "zero,inpaint"]
    done = sweep("--images", images, *options, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 2
    assert {*found["milliseconds"]} == {"zero", "inpaint"}
    takes = found["frame_bytes"]
    assert 0.9 * takes["none"] < takes["auto"] <= takes["none"] == takes["dfts"]
    for policy in ("dfts", "none", "auto"):
        for fill in ("zero", "inpaint"):
            assert found["agreement"][policy][fill].keys() == {"iid", "20"}
            assert found["agreement"][policy][fill]["20"].keys() == {"0.1", "0.4"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"concealment.{kind}" for kind in ("json", "csv", "md", "png")} <= names


@pytest.mark.parametrize("policy", ["dfts", "none", "FEC_50_50"])
def test_a_point_is_what_the_cloud_makes_of_the_same_losses(policy: str, images: Path) -> None:
    """Encode, lose the recorded datagrams, reassemble, and let the cloud's own decoder fill the gaps, in its time."""
    study = Study(Photographs(images, CUT.network.preprocess, 1), None, CUT, GRID, 1, None)
    link = ("5", 0.3)
    found = ConcealmentSweep(study, UNIFORM8, [policy], "activation", FILLS, [link])
    found.recorded.draw(found.links, study.seed)
    rng = np.random.default_rng(3)
    scores = rng.random(GRID.count).astype(np.float32)
    subject = Subject(study.names[0], rng.normal(0, 2, CUT.shape).astype(np.float32), {"activation": scores})
    coding = coding_for(CUT, GRID, UNIFORM8, policy)
    plan, coded = coding.packets(subject.chi, scores, None, estimate_of(link))
    arrived = ~found.recorded.lost(*link, 0)[0][: plan.sent]
    assert not packets_at_hand(plan, arrived).all()
    encoded = encode_tensor(coded, UNIFORM8, plan, map)
    for case, fill in zip(found.cases(subject), FILLS, strict=True):
        decoder = Decoder(in_time(Catalogue.of([CUT], fill).concealments, 60, Log("test")))
        there = decoder.decode(CUT, received(encoded, arrived, GRID))
        np.testing.assert_array_equal(case.features(), there.tensor)
        assert not decoder.given_up
        decoder.close()


def test_in_dfts_order_a_burst_takes_the_same_rows_of_neighbouring_channels() -> None:
    plan = coding_for(CUT, GRID, UNIFORM8, "dfts").trial_plan()
    assert plan is not None
    arrived = np.ones(plan.sent, bool)
    arrived[300:303] = False
    places = np.flatnonzero(~packets_at_hand(plan, arrived))
    assert [(place % GRID.groups, place // GRID.groups) for place in places] == [(1, 44), (1, 45), (1, 46)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fill", "noise"], "--fill has no 'noise'"),
        (["--fill", "mean", "--split", "pool1_pool"], "there are no channel means for the split 'pool1_pool'"),
        (["--fill", "learned", "--split", "pool1_pool"], "no network was trained to fill gaps at 'pool1_pool'"),
        (["--protect", "FEC_50"], "'FEC_50' is no protection policy"),
        (["--codec", "sqrt9"], "no codec is called 'sqrt9'"),
        (["--importance", "luck"], "--importance has no 'luck'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options: list[str], said: str, images: Path) -> None:
    done = sweep("--images", images, *options)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
