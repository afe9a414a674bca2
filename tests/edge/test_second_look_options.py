"""--second-look and --bytes-per-frame: which limit, how fine the features are, and what the edge tells the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from tests.edge.test_pictures_instead import FrontEnd, setup_of
from tests.imported_codec import small, write_codec
from tests.onnx_files import SIDE, classifier, spotter, written

from gradfec_common.errors import UsageError
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_edge.camera_setup import CameraSetup, options_of
from gradfec_edge.cameras import sessions_of
from gradfec_edge.cli import main
from gradfec_edge.frontend.nothing import NoFrontEnd
from gradfec_edge.rate import ByteTarget
from gradfec_edge.second_look import FIRST_BYTES, Savings, Score
from gradfec_host.config import each_camera
from gradfec_host.logs import Log
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.quality import MEAN_FROM

IMAGE = np.zeros((224, 224, 3), np.uint8)
PICTURES = RESNET50.cut("input_layer")


def bytes_of(of: CameraSetup) -> int | None:
    """How many bytes a first look may take, if the user or the second looks say so."""
    return of.coding.target.bytes if isinstance(of.coding.target, ByteTarget) else None


def limit_of(of: CameraSetup) -> str:
    """Which answers get a second look, in words."""
    match of.look and of.look.limit:
        case Score() as limit:
            return f"below {limit.unsure_below}"
        case Savings() as limit:
            return f"a mean of {limit.frame_bytes}"
    return "none"


@pytest.mark.parametrize(
    ("given", "limit", "first"),
    [
        ({}, "none", None),
        ({"second_look": 0.0}, "none", None),
        ({"second_look": 0.65}, "below 0.65", FIRST_BYTES),
        ({"second_look": 1.0}, "below 1.0", FIRST_BYTES),
        ({"second_look": 0.65, "quality": 5}, "below 0.65", None),
        ({"second_look": 0.65, "bytes_per_frame": 5000}, "below 0.65", 5000),
        ({"second_look": 0.65, "bytes_per_frame": 1000}, "below 0.65", 1000),
        ({"second_look": 0.65, "codec": "bottleneck"}, "below 0.65", FIRST_BYTES),
        ({"second_look": 0.65, "split": "conv2_block1_add"}, "below 0.65", FIRST_BYTES),
        ({"second_look": 0.65, "protect": "none"}, "below 0.65", FIRST_BYTES),
        ({"bytes_per_frame": 3000}, "none", 3000),
        ({"bytes_per_frame": MEAN_FROM - 1}, "none", MEAN_FROM - 1),
        ({"bytes_per_frame": MEAN_FROM}, f"a mean of {MEAN_FROM}", MEAN_FROM // 2),
        ({"bytes_per_frame": 8000}, "a mean of 8000", 2400),
        ({"bytes_per_frame": 8000, "second_look": 0.0}, "none", 8000),
        ({"bytes_per_frame": 8000, "protect": "none"}, "a mean of 8000", 2400),
        ({"bytes_per_frame": 8000, "protect": "FEC_20_80"}, "none", 8000),
        ({"bytes_per_frame": 8000, "codec": "bottleneck"}, "none", 8000),
        ({"bytes_per_frame": 8000, "split": "conv2_block1_add"}, "none", 8000),
    ],
    ids=str,
)
def test_the_options_say_which_answers_get_a_second_look_and_how_many_bytes_the_first_ones_take(
    given: dict[str, Any], limit: str, first: int | None
) -> None:
    of = setup_of(**given)
    assert (limit_of(of), bytes_of(of)) == (limit, first)
    assert of.frame_bytes is None


def test_a_first_look_takes_no_more_bytes_than_that_and_the_second_is_the_picture() -> None:
    of = setup_of(bytes_per_frame=8000, protect="none")
    assert of.look is not None
    front_ends: Any = {
        of.design.graph: FrontEnd(of.coding.cut.shape),
        of.look.design.graph: NoFrontEnd(RESNET50.preprocess),
    }
    front_ends[of.design.graph].latents *= 0.7
    first, _ = of.pipeline(front_ends, None, str).encode(IMAGE)
    assert 0.8 * FIRST_BYTES < first.wire_bytes <= 1.02 * FIRST_BYTES  # the bytes are estimated
    options = of.look_options(front_ends, 2.0)
    assert options is not None
    second, _ = options.pipeline.encode(IMAGE)
    assert (first.form, second.form) == (0, 1)
    assert (first.codec, second.codec) == ("bottleneck", "avif")
    assert (first.split, second.split) == ("conv2_block1_add", "input_layer")


@pytest.mark.parametrize("given", [{"second_look": 0.65}, {"bytes_per_frame": 8000}])
def test_where_unsure_frames_are_sent_again_features_go_first_whatever_the_link_is_like(given: dict[str, Any]) -> None:
    of = setup_of(**given)
    assert of.others == []
    assert len(of.designs) == 2


@pytest.mark.parametrize("given", [{"second_look": 0.65}, {"bytes_per_frame": 8000}])
def test_the_hello_names_the_form_of_pictures_after_that_of_features(given: dict[str, Any]) -> None:
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9", "--insecure"])
    (session,) = sessions_of([{**context.params, **given}], Log("gradfec-edge"))
    of = session.setup
    assert of.look is not None
    number = of.look.design.coding.form
    assert number == 1
    assert [cut for cut, _ in of.forms] == [of.coding.cut, PICTURES]
    assert of.forms[number] == (PICTURES, of.look.design.coding.grid.rows)
    assert session.hello.also == [[RESNET50.digest, PICTURES.id, of.forms[number][1]]]


def test_without_second_looks_the_hello_names_no_pictures() -> None:
    assert [cut for cut, _ in setup_of(bytes_per_frame=3000).forms] == [setup_of().coding.cut]


@pytest.mark.parametrize(("timeout_s", "within_s"), [(60.0, 1.0), (2.0, 1.0), (1.0, 0.5), (0.2, 0.1)])
def test_a_second_answer_is_there_within_a_second_or_half_of_the_time_that_an_answer_may_take(
    timeout_s: float, within_s: float
) -> None:
    of = setup_of(second_look=0.65)
    assert of.look is not None
    options = of.look_options({of.look.design.graph: NoFrontEnd(RESNET50.preprocess)}, timeout_s)
    assert options is not None and options.within_s == within_s
    assert setup_of().look_options({}, timeout_s) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"second_look": 0.65}, "below 0.65"),
        ({"bytes_per_frame": 8000}, "as 8000 bytes a frame allow"),
        ({"bytes_per_frame": 3000}, None),
    ],
)
def test_the_settings_say_which_frames_are_sent_again(given: dict[str, Any], said: str | None) -> None:
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9"])
    settings = setup_of(**given).settings(options_of({**context.params, **given}))
    assert settings.get("second_look") == said
    assert settings["codec"] == ("bottleneck or avif" if said else "bottleneck")


# --- what does not go together ---


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"codec": "avif:75"}, "--codec avif:75 at input_layer is none"),
        ({"codec": "webp"}, "is for bottlenecks, whose frames are smaller than pictures"),
        ({"codec": "uniform8"}, "--codec uniform8 at conv2_block1_add is none"),
        ({"mode": "paper", "codec": None}, "--codec uniform8 at conv2_block1_add is none"),
        ({"split": "avg_pool"}, "--codec auto at avg_pool is none"),
    ],
)
def test_a_second_look_is_refused_where_frames_are_no_bottlenecks(given: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=r"--second-look 0\.65 is for bottlenecks") as refused:
        setup_of(second_look=0.65, **given)
    assert why in str(refused.value)
    assert setup_of(second_look=0.0, **given).look is None, "not to want one is no contradiction"


@pytest.mark.parametrize("protect", ["FEC_20_80", "nested:8/20"])
def test_a_second_look_is_refused_where_nothing_tells_the_parity_of_a_picture(protect: str) -> None:
    with pytest.raises(UsageError, match=f"--second-look 0.65 is for --protect auto or none, and not for {protect}"):
        setup_of(second_look=0.65, protect=protect)


@pytest.mark.parametrize("score", ["1.01", "-0.1", "often"])
def test_what_is_no_score_is_refused(score: str) -> None:
    with pytest.raises(click.BadParameter):
        main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9", "--second-look", score])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    return tmp_path


def test_a_network_that_was_added_may_have_second_looks_with_its_own_bottleneck(home: Path) -> None:
    path = written(classifier(), home / "plain.onnx")
    model = add_model(path, Graph.read(path), Wanted("plain", preprocess_of("unit", (SIDE, SIDE)), split="stem"))
    with pytest.raises(UsageError, match="is for bottlenecks"):
        setup_of(model="plain", second_look=0.5)
    write_codec(small(model))
    of = setup_of(model="plain", second_look=0.5)
    assert of.look is not None
    assert [cut.network.name for cut, _ in of.forms][1] == "plain"
    assert of.look.design.coding.grid.shape == (SIDE, SIDE, 3)
    assert (limit_of(of), bytes_of(of)) == ("below 0.5", FIRST_BYTES)


def test_boxes_have_no_score_by_which_a_second_look_could_be_decided(home: Path) -> None:
    side = 64
    path = written(spotter(side), home / "spotter.onnx")
    model = add_model(path, Graph.read(path), Wanted("spotter", preprocess_of("unit", (side, side)), split="seen"))
    write_codec(small(model, "seen", "heatmap"))
    with pytest.raises(UsageError, match=r"--second-look 0\.5 is for classifiers: answers of spotter have no score"):
        setup_of(model="spotter", second_look=0.5)
    of = setup_of(model="spotter", bytes_per_frame=8000)
    assert (limit_of(of), bytes_of(of)) == ("none", 8000), "each frame has about so many bytes"


def test_each_camera_of_a_file_may_have_its_own(home: Path) -> None:
    path = home / "edge.toml"
    path.write_text(
        'cloud = "127.0.0.1:9"\nsecond_look = 0.7\n'
        '[[camera]]\nname = "a"\ncamera = "0"\n'
        '[[camera]]\nname = "b"\ncamera = "1"\nsecond_look = 0.0\n'
        '[[camera]]\nname = "c"\ncamera = "2"\nbytes_per_frame = 8000\n'
    )
    with main.make_context("gradfec-edge", ["--config", str(path)]) as context:
        setups = [CameraSetup(options_of(camera)) for camera in each_camera(context.params)]
    assert [(limit_of(of), bytes_of(of)) for of in setups] == [("below 0.7", 2400), ("none", None), ("below 0.7", 8000)]
