"""`gradfec sweep protection`: the same losses for every scheme, and the answers that the real path would give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.reassembly import Reassembly
from gradfec_edge.coding import coding_of
from gradfec_host.tuned import BackEndFile
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.losses import Losses
from gradfec_lab.sweep.protection import read_bursts

from .toys import ToyModel, ToyScores, install, write_images

CUT = named_cut(DEFAULT_CUT)
GRID = PacketGrid(CUT.shape)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 3)
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "protection", *map(str, arguments)])


def result(*arguments: object) -> dict:
    done = sweep("--importance", "activation", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(("codec", "packets"), [("uniform8", "1"), ("sqrt4", "fit")])
@pytest.mark.parametrize("fec", ["zfec", pytest.param("leopard", marks=pytest.mark.leopard)])
@pytest.mark.parametrize("policy", ["none", "FEC_20_80", "FEC_50_50", "nested:100,180"])
def test_a_point_is_what_the_same_losses_make_of_the_tensor_on_the_real_path(
    policy: str, fec: str, codec: str, packets: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encode, lose the recorded datagrams, reassemble, decode, fill: the answers are the sweep's, one for one."""
    model = ToyModel(0.01)
    install(monkeypatch, model)
    out = tmp_path / "out"
    options = ("--protect", policy, "--fec", fec, "--loss", "0.2,0.5", "--repetitions", "2", "--out", out)
    result("--images", images, *options, "--codec", codec, "--packets-per-datagram", packets)
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    losses = Losses(3, 2, GRID.count)
    losses.load(out / "losses.npz", [("iid", 0.2), ("iid", 0.5)])
    photographs = Photographs(images, RESNET50.preprocess)
    coding = coding_of(CUT, GRID.rows, codec, policy, fec, None if packets == "fit" else int(packets))
    zero = make_concealment("zero", CUT, {})
    for number, name in enumerate(photographs.names):
        (answers,) = (line["answers"] for line in lines if line["image"] == name)
        image = photographs.read(name)
        assert image is not None
        chi, scores, _ = ToyScores(["activation"], GRID)(image[None], [name])
        tensor = coding.encode(chi[0], scores["activation"][0], None, UNKNOWN_LINK, map)
        bodies = tensor.bodies(0)
        for loss in (0.2, 0.5):
            for repetition, lost in enumerate(losses.lost("iid", loss, number)[:, : tensor.plan.sent]):
                arrived = bodies[~lost]
                reassembly = Reassembly(arrived[0].tobytes(), GRID)
                assert reassembly.add(arrived) == {}
                real = int(model(decode_tensor(reassembly, zero).tensor[None])[0])
                point = f"{codec}/{packets}/{fec}/iid/activation/{policy}/zero/{loss:g}"
                assert answers[point][repetition] == real


def test_a_point_says_what_a_frame_costs_on_the_link(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    options = ("--images", images, "--loss", "0", "--repetitions", 1, "--protect", "none,nested:100,180")
    found = result(*options, "--codec", "uniform8,sqrt4", "--packets-per-datagram", "fit")
    costs = {(row["codec"], row["policy"]): (row["datagrams"], row["bytes"]) for row in found["costs"]}
    assert [variant["codec"] for variant in found["variants"]] == ["uniform8", "sqrt4"]
    assert {policy for _, policy in costs} == {"none", "nested:100,180"}
    assert costs["uniform8", "none"][0] == 1024  # two packets fit
    assert costs["sqrt4", "none"][0] < 420
    assert costs["sqrt4", "nested:100,180"][0] == 180
    assert all(200 * datagrams < size <= 1200 * datagrams for datagrams, size in costs.values())


def test_json_says_agreement_by_policy_fill_and_loss_and_the_other_variants(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    found = result(
        *("--images", images, "--protect", "none,fec_50_50", "--loss", "0,0.3,0.9,1", "--repetitions", 2),
        *("--burst", "iid,8", "--fec", "zfec,leopard"),
    )
    assert (found["images"], found["repetitions"]) == (3, 2)
    variants = found["variants"]
    assert [(v["code"], v["burst"], v["importance"]) for v in variants] == [
        (code, burst, "activation") for code in ("zfec", "leopard") for burst in ("iid", "8")
    ]
    assert found["agreement"] == variants[0]["agreement"]
    for variant in variants:
        assert variant["agreement"].keys() == {"none", "FEC_50_50"}
        shares = variant["agreement"]["FEC_50_50"]["zero"]
        assert shares.keys() == variant["ci"]["FEC_50_50"]["zero"].keys()
        assert shares["0"] == shares["0.3"]  # within the code's reach
        assert shares["1"] == 0
        assert variant["agreement"]["none"]["zero"]["0"] == 1
        assert variant["by_losses"]["FEC_50_50"]["zero"]["0.3"] == 0
        at_30 = {policy: variant["agreement"][policy]["zero"]["0.3"] for policy in ("none", "FEC_50_50")}
        assert variant["gain"]["FEC_50_50"]["zero"]["0.3"] == pytest.approx(at_30["FEC_50_50"] - at_30["none"])
        assert "none" not in variant["gain"]
        assert ("0.9" in shares) == (variant["burst"] == "iid")
    assert found["left_out"] == [{"burst": "8", "loss": 0.9}]


def test_one_code_word_fails_as_a_whole_where_blocks_fail_one_by_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the very threshold a code word of the whole tensor decodes or does not; of eight blocks some do."""
    model = ToyModel(0.01)
    install(monkeypatch, model)
    options = ("--images", images, "--protect", "FEC_50_50", "--loss", "0.5", "--repetitions", "8", "--fec")
    distinct = {}
    for code in ("zfec", "leopard"):
        model.seen.clear()
        result(*options, code, "--out", tmp_path / code)
        zeros = [int((GRID.split(chi) == 0).all(axis=1).sum()) for chi in model.seen]
        distinct[code] = sum(GRID.count / 2 < count < GRID.count * 0.7 for count in zeros)
    assert distinct["zfec"] > distinct["leopard"] == 0


def test_replayed_losses_give_the_same_answers_and_their_file_is_a_setting(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, ToyModel(0.01))
    options = ("--images", images, "--protect", "none", "--loss", "0.1", "--repetitions", 2)
    drawn = result(*options, "--seed", 5, "--out", tmp_path / "drawn")
    replayed = result(*options, "--seed", 6, "--masks", tmp_path / "drawn" / "losses.npz", "--out", tmp_path / "again")
    assert replayed["agreement"] == drawn["agreement"]
    answers = [(tmp_path / name / "answers.jsonl").read_text() for name in ("drawn", "again")]
    assert answers[0] == answers[1]
    assert "holds a sweep with losses = 'recorded, " in sweep(*options, "--seed", 6, "--out", tmp_path / "again").stderr


def test_more_repetitions_ask_only_for_the_new_ones(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = install(monkeypatch, ToyModel(0.01))
    options = ("--images", images, "--protect", "none", "--loss", "0.1,1", "--out", tmp_path / "out", "--repetitions")
    result(*options, 2)
    asked = sum(model.batches)
    result(*options, 5)
    assert sum(model.batches) == asked + 3 * 3  # at a loss of 1 there is nothing new to ask
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    latest = {line["image"]: line["answers"] for line in map(json.loads, lines)}
    assert {len(answers["uniform8/1/zfec/iid/activation/none/zero/0.1"]) for answers in latest.values()} == {5}


def test_burst_lengths_are_numbers_or_iid() -> None:
    assert read_bursts("iid,8,20.5,1") == ["iid", "8", "20.5"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--protect", "FEC_50_60"], "'FEC_50_60' has A + B = 110"),
        (["--loss", "1.1"], "--loss: '1.1' is not a share from 0 to 1"),
        (["--burst", "0.5"], "--burst: '0.5' is not a mean length of a burst: use iid, or a number of at least 1"),
        (["--burst", "nan"], "--burst: 'nan' is not a mean length"),
        (["--fec", "turbo"], "'turbo' is not an erasure code: use zfec or leopard"),
        (["--importance", "luck"], "--importance has no 'luck'"),
        (["--protect", "FEC_50"], "'FEC_50' is no protection policy: use one of auto  none  FEC_A_B  nested:k1,k2,..."),
        (["--protect", "nested:9,4"], "each k must be greater than the one before it"),
        (["--protect", "nested:9,4000", "--fec", "leopard"], "sends 4000 datagrams, but losses are drawn for 2048"),
        (["--codec", "sqrt9"], "no codec is called 'sqrt9'"),
        (["--fill", "noise"], "--fill has no 'noise': use one or several of zero,mean"),
        (["--rows", "28"], "use smaller --rows"),
        (["--masks", "none.npz"], "cannot read the recorded losses none.npz: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    options: list[str], said: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = install(monkeypatch)
    done = sweep("--images", images, *options)
    assert done.exit_code in {1, 2}
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not made


def test_a_back_end_answers_in_the_place_of_the_networks_own_but_for_the_reference(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, tuned = install(monkeypatch, ToyModel(0.01))[1], ToyModel(1000.0)
    monkeypatch.setattr("gradfec_lab.sweep.study.load_tuned", lambda cut, file: tuned)
    file = BackEndFile(str(tmp_path / "mine.npz"), {"cut": DEFAULT_CUT}, {})
    file.write()
    out = tmp_path / "out"
    found = result("--images", images, "--protect", "none", "--loss", "0.5", "--backend", file.path, "--out", out)
    assert len(plain.seen) == 3 and len(tuned.seen) == 3 * 10
    assert found["images"] == 3
    again = sweep("--importance", "activation", "--images", images, "--protect", "none", "--loss", "0.5", "--out", out)
    assert again.exit_code == 2 and "back-end" in again.output
