"""An edge with a bottleneck sends latents: those of a file or of the shipped one, as fine as it is asked to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.common.bottlenecks import toy
from tests.common.bottlenecks.toy import CUT, NETWORK, halve

from gradfec_cloud.catalogue import latents as latents_served
from gradfec_common.bottlenecks import BOTTLENECKS
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import NETWORKS, Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.quantisers.laplace import Laplace
from gradfec_edge.coding import Coding, coding_of, usual_cut
from gradfec_edge.importance import EstimatorFile, default_estimator, make_estimator
from gradfec_edge.importance.latents import OFFSET, POWER
from gradfec_host import codec_file
from gradfec_host.codec_file import CodecFile

ABOUT = {"bottleneck": "halve", "cut": "blocks:stem", "rows": 4, "fall": 3.0, "worth": {"quality": [[3, 400, 0.8]]}}


@pytest.fixture(autouse=True)
def strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The toys, and no shipped codec."""
    monkeypatch.setitem(NETWORKS, NETWORK.name, NETWORK)
    monkeypatch.setitem(BOTTLENECKS, toy.NAME, halve)
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> CodecFile:
    """A codec for the toy's cut, in the place of a shipped one."""
    bottleneck = halve(CUT)
    layers = {layer.name: layer for layer in (*bottleneck.encoder, *bottleneck.decoder)}
    arrays = {
        f"{name}/{part}": array.astype(np.float16)
        for name, made in toy.trained(bottleneck).items()
        for part, array in zip(layers[name].arrays, made, strict=True)
    }
    (tmp_path / NETWORK.name).mkdir()
    made = CodecFile(str(tmp_path / NETWORK.name / f"{CUT.name}.npz"), ABOUT, arrays)
    made.write()
    return made


def step_of(coding: Coding) -> float:
    assert isinstance(coding.quantiser, Laplace)
    return coding.quantiser.step


@pytest.mark.parametrize("codec", ["auto", "FILE"])
def test_a_hundred_cameras_with_one_codec_read_it_once(
    file: CodecFile, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_arrays = codec_file.read_arrays

    def counted(path: Path) -> Mapping[str, np.ndarray]:
        reads.append(path)
        return read_arrays(path)

    monkeypatch.setattr(codec_file, "read_arrays", counted)
    codec = file.path if codec == "FILE" else codec
    cuts = {coding_of(CUT if codec == "auto" else usual_cut(codec), None, codec, None, "zfec").cut for _ in range(100)}
    assert len(cuts) == len(reads) == 1


@pytest.mark.parametrize("codec", ["auto", "bottleneck", "FILE"])
def test_with_a_bottleneck_the_tensor_is_its_latents_in_packets_of_the_rows_that_it_was_trained_with(
    file: CodecFile, codec: str
) -> None:
    coding = coding_of(CUT, None, codec.replace("FILE", file.path), None, "zfec")
    assert (coding.cut.name, coding.cut.network.digest) == ("encoder", file.latents.network.digest)
    assert (coding.grid.shape, coding.grid.rows) == ((8, 8, 2), 4)
    assert step_of(coding) == file.step(3)
    assert step_of(coding_of(CUT, 8, file.path, None, "zfec", quality=9)) == file.step(9)


@pytest.mark.parametrize("worth", [None, {"quality": []}, {"quality": [[3, 400, 0.79]]}])
def test_a_shipped_bottleneck_of_which_nobody_knows_that_it_keeps_most_answers_must_be_asked_for(
    file: CodecFile, worth: object
) -> None:
    CodecFile(file.path, {**file.about, "worth": worth}, file.arrays).write()
    assert coding_of(CUT, 4, "auto", None, "zfec").cut is CUT
    assert coding_of(CUT, None, "bottleneck", None, "zfec").cut.name == "encoder"


def test_another_quantiser_or_another_cut_has_no_bottleneck(file: CodecFile) -> None:
    assert coding_of(CUT, 4, "uniform8", None, "zfec").cut is CUT
    assert coding_of(NETWORK.cut("stem_relu"), 4, "auto", None, "zfec").cut.name == "stem_relu"


def test_a_file_names_the_cut_if_nobody_else_does(file: CodecFile) -> None:
    assert usual_cut(file.path) is CUT


def test_what_is_no_bottleneck_or_not_for_the_cut_is_refused(file: CodecFile) -> None:
    other = NETWORK.cut("last")
    for codec, cut, options, says in (
        (file.path, other, {}, "is for the split blocks:stem, not for blocks:last"),
        ("bottleneck", other, {}, "there is no bottleneck for the split blocks:last"),
        ("uniform8", CUT, {"quality": 3}, "--quality is for bottlenecks, and --codec uniform8 at stem is none"),
        ("uniform8", CUT, {"bytes_a_frame": 900}, "--bytes-per-frame is for bottlenecks"),
        (file.path, CUT, {"quality": 3, "bytes_a_frame": 900}, "give one of them"),
    ):
        with pytest.raises(UsageError, match=says):
            coding_of(cut, None, codec, None, "zfec", **options)  # type: ignore[arg-type]


def test_with_a_number_of_bytes_latents_are_as_fine_as_it_allows(file: CodecFile) -> None:
    latents = np.random.default_rng(1).normal(0, 3, (8, 8, 2)).astype(np.float32)
    sent, steps = [], []
    for bytes_a_frame in (1, 130, 160, 10_000):
        coding = coding_of(CUT, None, "auto", "none", "zfec", bytes_a_frame=bytes_a_frame)
        encoded = coding.encode(latents, np.ones(4, np.float32), None, UNKNOWN_LINK, map)
        sent.append(encoded.wire_bytes)
        steps.append(float(np.frombuffer(encoded.bodies(0)[0][27:31].tobytes(), ">f4")[0]))
    assert sent == sorted(sent) and steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == pytest.approx((file.step(1), file.step(9)))


def test_packets_of_zeros_are_not_sent(file: CodecFile) -> None:
    latents = np.zeros((8, 8, 2), np.float32)
    latents[5, 5, 1] = 3
    coding = coding_of(CUT, None, "auto", "none", "zfec")
    plan = coding.encode(latents, np.ones(4, np.float32), None, UNKNOWN_LINK, map).plan
    assert (plan.total, plan.kept, plan.dropped.tolist()) == (4, 1, [0, 1, 2])


def test_a_cloud_serves_the_latents_of_what_is_shipped_for_its_cuts_and_of_files(file: CodecFile) -> None:
    digest = file.latents.network.digest
    assert [cut.network.digest for cut in latents_served([CUT], [])] == [digest]
    assert [cut.network.digest for cut in latents_served([], [file])] == [digest]


def with_ranking(file: CodecFile, packets: int = 4) -> Cut:
    """Return the latents of a codec that says that only the second packet's energy counts."""
    ranking = {OFFSET: np.zeros(packets, np.float16), POWER: np.array([0, 1, 0, 0, 0][:packets], np.float16)}
    return CodecFile(file.path, file.about, {**file.arrays, **ranking}).latents


def test_the_ranking_that_a_codec_brings_is_the_default_one(file: CodecFile) -> None:
    latents = with_ranking(file)
    grid = PacketGrid(latents.shape, 4)
    assert default_estimator(latents, grid) == "proxy"
    proxy = make_estimator("proxy", latents, grid, np.random.default_rng(0))
    assert not isinstance(proxy, EstimatorFile)
    chi = np.zeros((8, 8, 2), np.float32)
    chi[:4, :, 0] = 9  # the first packet
    chi[5, 5, 0] = 3  # the second
    image = np.zeros((8, 8, 3), np.uint8)
    assert proxy(image, chi) == pytest.approx([0, np.log(9), 0, 0], abs=1e-3)


def test_without_a_ranking_or_with_other_packets_energy_counts(file: CodecFile) -> None:
    for latents, rows in ((file.latents, 4), (with_ranking(file), 8)):
        grid = PacketGrid(latents.shape, rows)
        assert default_estimator(latents, grid) == "energy"
        with pytest.raises(UsageError, match=f"has no proxy for {rows} rows a packet: use energy"):
            make_estimator("proxy", latents, grid, np.random.default_rng(0))


def test_a_ranking_of_another_number_of_packets_is_a_damaged_file(file: CodecFile) -> None:
    with pytest.raises(GradfecError, match=r"ranking/offset is float16 \(5,\), or not finite, not \(4,\)"):
        with_ranking(file, 5)
