"""Features or the picture: without options, each frame is sent as what the link makes worth more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from tests.onnx_files import SIDE, classifier, written

from gradfec_common.networks.imported import Imported
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import LinkEstimate, Quality
from gradfec_common.protect.auto import PICTURES, usual_pictures
from gradfec_common.protect.link import Losses
from gradfec_common.wire.symbol import read_headers
from gradfec_edge.camera_setup import CameraSetup, options_of
from gradfec_edge.cli import main
from gradfec_edge.frontend import Features
from gradfec_edge.frontend.nothing import NoFrontEnd
from gradfec_edge.pipeline import Pipeline
from gradfec_edge.rate import LARGEST, PictureTarget
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.find import model_of
from gradfec_host.models.graph import Graph
from gradfec_host.models.learned import Learned, write_learned
from gradfec_host.models.presets import preprocess_of

PHOTOGRAPH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8), (7, 7), 0)
NOISE = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
BOTH = frozenset({0, 1})
NOTHING = NoFrontEnd(RESNET50.preprocess)


def setup_of(**given: object) -> CameraSetup:
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9"])
    return CameraSetup(options_of({**context.params, **given}))


def link(loss: float, frame_bytes: float | None) -> LinkEstimate:
    return LinkEstimate(((1.0, Losses(loss, 1.5)),), frame_bytes=frame_bytes)


GOOD, SLOW, BAD = link(0.002, 80_000.0), link(0.002, 4_000.0), link(0.4, 80_000.0 / 8)
NARROW = link(0.002, 700.0)


def blurred(sigma: float) -> npt.NDArray[np.uint8]:
    """Noise, the smoother, the fewer bytes it takes."""
    return np.asarray(cv2.GaussianBlur(NOISE, (0, 0), sigma), np.uint8)


class FrontEnd:
    """Any latents."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.latents = np.random.default_rng(2).laplace(0, 0.3, shape).astype(np.float32)

    def warm_up(self) -> None:
        pass

    def __call__(self, image: npt.NDArray[np.uint8]) -> Features:
        return Features(self.latents)


def pipeline() -> Pipeline:
    of = setup_of()
    return of.pipeline({of.design.graph: FrontEnd(of.coding.cut.shape), of.others[0].graph: NOTHING}, None, str)


def test_more_bytes_of_a_picture_keep_more_answers() -> None:
    for column in np.array(PICTURES.qualities).T:
        assert (np.diff(column) > 0).all()
    assert PICTURES.agreement(0) == PICTURES.qualities[0].agreement
    assert PICTURES.agreement(1e9) == PICTURES.qualities[-1].agreement


@pytest.mark.parametrize(
    "given",
    [
        {"codec": "bottleneck"},
        {"codec": "webp"},
        {"split": "conv2_block1_add"},
        {"quality": 3},
        {"bytes_per_frame": 5000},
        {"protect": "none"},
        {"mode": "paper", "codec": None},
    ],
)
def test_an_edge_that_is_told_what_to_send_sends_that(given: dict[str, Any]) -> None:
    assert setup_of(**given).others == []


def test_without_options_the_edge_may_send_pictures_and_says_so() -> None:
    of = setup_of()
    (picture,) = of.others
    assert (picture.coding.cut, picture.coding.form) == (RESNET50.cut("input_layer"), 1)
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9"])
    assert of.settings(options_of(context.params))["codec"] == "bottleneck or avif"


@pytest.mark.parametrize(("on", "codec"), [(GOOD, "avif"), (SLOW, "bottleneck"), (BAD, "bottleneck")])
def test_a_good_link_gets_the_picture_and_a_slow_or_a_bad_one_features(on: LinkEstimate, codec: str) -> None:
    work = pipeline()
    work.allow(BOTH)
    encoded, _ = work.encode(PHOTOGRAPH, on)
    assert encoded.codec == codec
    assert encoded.form == ["bottleneck", "avif"].index(codec)
    assert (read_headers(encoded.unnumbered)["form"] == encoded.form).all()


def test_a_cloud_that_takes_no_pictures_gets_features() -> None:
    work = pipeline()
    assert work.encode(PHOTOGRAPH, GOOD)[0].form == 0
    work.allow(BOTH)
    assert work.encode(PHOTOGRAPH, GOOD)[0].form == 1
    work.allow(frozenset({0}))
    assert work.encode(PHOTOGRAPH, GOOD)[0].form == 0


def test_a_picture_that_needs_many_more_bytes_than_usual_is_coarser() -> None:
    of = setup_of().others[0].pipeline(NOTHING)
    on = link(0.002, 16_000.0)
    chosen = of.coding.policy.choose(on, of.coding.room).quality  # type: ignore[attr-defined]
    assert chosen.quality > PICTURES.qualities[0].quality
    smooth, noise = (of.encode(image, on)[0] for image in (PHOTOGRAPH, NOISE))
    finest = replace(of.coding, target=None, quantiser=of.coding.quantiser.with_quality(round(chosen.quality)))  # type: ignore[attr-defined]
    tensor = of.front_end(NOISE).chi
    assert finest.quantiser.encode(tensor, finest.grid).packets.sizes.sum() > LARGEST * chosen.bytes
    assert noise.wire_bytes < finest.encode(tensor, noise.importance, None, on, map).wire_bytes
    assert smooth.wire_bytes < 1.5 * 16_000


@pytest.mark.parametrize("frame_bytes", [10_000.0, 14_000.0, 20_000.0])
def test_a_picture_of_more_bytes_than_usual_has_as_much_parity(frame_bytes: float) -> None:
    of, on = setup_of().others[0].pipeline(NOTHING), link(0.08, frame_bytes)
    sent = [of.encode(image, on)[0] for image in (PHOTOGRAPH, *map(blurred, (1.0, 1.5, 2.0)))]
    shares = [one.plan.parity / one.plan.unasked for one in sent]
    assert min(shares) > 0.1 and max(shares) - min(shares) < 0.2
    assert max(one.wire_bytes for one in sent) < 1.2 * frame_bytes


def test_a_picture_of_fewer_bytes_than_usual_is_finer() -> None:
    of, on = setup_of().others[0].pipeline(NOTHING), link(0.002, 6_000.0)
    usual = of.coding.policy.choose(on, of.coding.room).quality  # type: ignore[attr-defined]
    smooth = of.front_end(blurred(6.0)).chi
    coarse = of.coding.quantiser.with_quality(round(usual.quality)).encode(smooth, of.coding.grid)  # type: ignore[attr-defined]
    assert coarse.packets.sizes.sum() < 0.7 * usual.bytes
    assert of.coding.target is not None
    coded, agreement = of.coding.target.encode(smooth, of.coding.grid, on)
    assert coded.packets.sizes.sum() > 1.1 * coarse.packets.sizes.sum()
    assert agreement is not None and agreement > usual.agreement


def test_of_a_picture_what_was_measured_for_its_quality_is_expected_whatever_its_own_size() -> None:
    of = setup_of().others[0].pipeline(NOTHING)
    for image in (blurred(6.0), PHOTOGRAPH, blurred(0.7)):
        encoded, _ = of.encode(image, GOOD)
        _, agreement = of.coding.target.encode(of.front_end(image[..., ::-1]).chi, of.coding.grid, GOOD)  # type: ignore[union-attr]
        assert encoded.plan.expected == pytest.approx(agreement, abs=0.02)


def test_a_picture_that_is_too_large_for_any_plan_is_sent_all_the_same() -> None:
    grain = np.random.default_rng(3).integers(0, 256, (1600, 1600, 3), np.uint8)
    of = setup_of().others[0]
    tensor = NoFrontEnd(replace(RESNET50.preprocess, height=1600, width=1600))(grain).chi
    target = PictureTarget(of.coding.policy, of.coding.room, of.coding.quantiser)  # type: ignore[arg-type]
    grid = PacketGrid(tensor.shape, 40, replace(RESNET50.preprocess, height=1600, width=1600))  # type: ignore[arg-type]
    for _ in range(3):
        coded, agreement = target.encode(tensor, grid, GOOD)
        assert coded.packets.sizes.sum() > 100_000
        plan = replace(of.coding, grid=grid).plan(
            coded.packets.sizes, np.zeros(grid.count, np.float32), GOOD, agreement
        )
        assert plan.unasked * of.coding.room.left() >= coded.packets.sizes.sum()
        assert target.value(GOOD) < 0.2, "and the next frame are features"


def test_where_pictures_take_many_bytes_features_are_sent_until_that_is_long_ago() -> None:
    work, on = pipeline(), link(0.002, 8_000.0)
    work.allow(BOTH)
    forms = [work.encode(PHOTOGRAPH, on)[0].form, *(work.encode(NOISE, on)[0].form for _ in range(60))]
    assert forms[:2] == [1, 1], "what a picture takes is known once it is coded"
    assert forms[2:12] == [0] * 10
    assert 1 in forms[12:], "the scene may be another one by now"


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imported:
    """A network that was added, with features of 1.6 kB."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    path = written(classifier(), tmp_path / "plain.onnx")
    return add_model(path, Graph.read(path), Wanted("plain", preprocess_of("unit", (SIDE, SIDE)), split="stem")).network


def test_so_may_an_edge_with_a_network_that_was_added(added: Imported) -> None:
    of = setup_of(model="plain")
    (picture,) = of.others
    assert (of.coding.cut.name, picture.coding.cut.name) == (added.usual_cut.name, added.cuts[0].name)
    assert picture.coding.policy.worth == usual_pictures(SIDE * SIDE, picture.coding.room)  # type: ignore[attr-defined]
    worth = {link: [one.coding.value(link) for one in of.designs] for link in (GOOD, NARROW)}
    assert worth[GOOD][0] > worth[GOOD][1] and worth[NARROW][0] < worth[NARROW][1]
    assert setup_of(model="plain", split="stem").others == []
    assert setup_of(model="plain", protect="none").others == []


def test_what_was_learned_of_pictures_counts(added: Imported) -> None:
    cut, few = added.usual_cut, (Quality(60, 800.0, 0.3), Quality(90, 1600.0, 0.4))
    height, _, channels = cut.shape
    means = np.zeros(channels, np.float32)
    learned = Learned({"means": means}, means + 1, np.ones((height, 1, channels), np.float32), ((0.5, 0.9), (1.0, 1.0)))
    for pictures in ((), few):
        write_learned(model_of(added).folder, cut, learned._replace(pictures=pictures))
        (picture,) = setup_of(model="plain").others
        assert (picture.coding.policy.worth.qualities == few) == bool(pictures)  # type: ignore[attr-defined]
    assert max(setup_of(model="plain").designs, key=lambda one: one.coding.value(NARROW)).coding.codec == "sqrt4"
    older = learned._replace(arrays={"means": means, "pictures": np.array(few)})  # what WebP pictures are worth
    write_learned(model_of(added).folder, cut, older)
    (picture,) = setup_of(model="plain").others
    assert picture.coding.policy.worth == usual_pictures(SIDE * SIDE, picture.coding.room)  # type: ignore[attr-defined]
    write_learned(model_of(added).folder, cut, learned._replace(pictures=(Quality(20, 1e6, 0.9),)))
    assert setup_of(model="plain").others == []  # no picture fits the datagrams of a frame
