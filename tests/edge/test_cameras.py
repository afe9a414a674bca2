"""Several cameras of one edge: shared front-ends, errors in the options of one, and the lines on the terminal."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.heads import Classes
from gradfec_common.keys import new_key
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.wire import Report, Result
from gradfec_edge import cameras as cameras_module
from gradfec_edge import design as design_module
from gradfec_edge.camera_setup import CameraSetup, options_of
from gradfec_edge.cameras import front_ends, log_frame, sessions_of
from gradfec_edge.cli import main, raise_errors
from gradfec_edge.frames import Frame
from gradfec_edge.frontend import SharedFrontEnd
from gradfec_edge.health import LinkState
from gradfec_edge.status import CameraStatus, Row, status_table
from gradfec_edge.story import Sent, Story
from gradfec_host import codec_file
from gradfec_host.console import Endpoint
from gradfec_host.key_files import KEY_FILE_VARIABLE, write_key
from gradfec_host.logs import Log
from gradfec_host.runtimes import NO_RUNTIME


@pytest.fixture(autouse=True)
def no_bottleneck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bottleneck is shipped: test_bottlenecks.py has what is another way if one is."""
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)


def options(**given: object) -> dict[str, Any]:
    """The options of one camera, as the command line would give them."""
    context = main.make_context("gradfec-edge", ["--camera", "0", "--cloud", "127.0.0.1:9"])
    return {**context.params, **given}


class OneAtATime:
    """A front-end that may be in one thread at a time."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.seen: list[int] = []

    def warm_up(self) -> None:
        pass

    def __call__(self, image: Any) -> Any:
        assert self.busy.acquire(blocking=False), "two threads at once"
        try:
            self.seen.append(int(image[0]))
            return image
        finally:
            self.busy.release()


def test_a_shared_front_end_takes_one_image_at_a_time_and_gives_each_its_own_answer() -> None:
    model = OneAtATime()
    shared = SharedFrontEnd(model)
    images = [np.array([n]) for n in range(200)]
    with ThreadPoolExecutor(8) as cameras:
        answers = [*cameras.map(shared, images)]
    assert [int(answer[0]) for answer in answers] == [*range(200)]
    assert sorted(model.seen) == [*range(200)]


def test_images_are_served_in_the_order_in_which_they_come() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(OneAtATime):
        def __call__(self, image: Any) -> Any:
            started.set()
            go_on.wait()
            return super().__call__(image)

    model = Slow()
    shared = SharedFrontEnd(model)
    first = threading.Thread(target=shared, args=([0],))
    first.start()
    started.wait()
    waiting = []
    for n in range(1, 6):
        waiting.append(threading.Thread(target=shared, args=([n],)))
        waiting[-1].start()
        while shared._thread._work_queue.qsize() < n:  # it has come, and waits
            pass
    go_on.set()
    for thread in (first, *waiting):
        thread.join()
    assert model.seen == [*range(6)]


def test_cameras_that_need_the_same_front_end_share_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_key(tmp_path / "key", new_key(bytes))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    loaded: list[tuple[object, ...]] = []

    def load(runtime: str, cut: Any, weights: object, proxy: object) -> OneAtATime:
        loaded.append((cut.name, proxy is not None))
        return OneAtATime()

    monkeypatch.setattr(design_module, "load_front_end", load)
    wanted = [
        {},
        {"protect": "none", "codec": "uniform8", "packets_per_datagram": 1},
        {"importance": "activation"},
        {"importance": "static"},
        {"split": "pool1_pool"},
    ]
    given = [own_options(**own, name=str(n)) for n, own in enumerate(wanted)]
    sessions = sessions_of(given, Log("gradfec-edge"))
    loaded_once = front_ends(sessions, "litert", {RESNET50: None})  # type: ignore[dict-item]
    models = [loaded_once[session.setup.design.graph] for session in sessions]
    assert loaded == [("conv2_block1_add", True), ("conv2_block1_add", False), ("pool1_pool", False)]
    assert models[0] is models[1] is not models[2]
    assert models[2] is models[3]
    assert isinstance(models[0], SharedFrontEnd)
    assert isinstance(models[4], OneAtATime)  # nobody to share it with


def own_options(**given: object) -> dict[str, Any]:
    fields = cameras_module.CameraOptions.__dataclass_fields__
    return {name: value for name, value in options(**given).items() if name in fields}


def edge_toml(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return ["--config", str(path)]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ('name = "door"', "2 cameras are called 'door': give each [[camera]] a name of its own"),
        ('name = "yard"\nprotect = "FEC_50_60"', "camera 'yard': 'FEC_50_60' has A + B = 110, not 100"),
        ('name = "yard"\ncodec = "sqrt9"', "camera 'yard': no codec is called 'sqrt9'"),
        ('name = "yard"\nrows = 5', "camera 'yard': 5 rows a packet do not divide the 56 rows"),
        ('name = "yard"\ncamera = "nothing.avi"', "camera 'yard': 'nothing.avi' does not exist"),
    ],
)
def test_an_error_in_the_options_of_one_of_several_cameras_names_it(
    second: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photographs: Path
) -> None:
    write_key(tmp_path / "key", new_key(bytes))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    camera = "" if "camera =" in second else f'camera = "{photographs}"\n'
    text = f'cloud = "127.0.0.1:9"\n[[camera]]\nname = "door"\ncamera = "{photographs}"\n[[camera]]\n{camera}{second}\n'
    result = CliRunner().invoke(main, edge_toml(tmp_path / "edge.toml", text))
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_decided_needs_neither_key_nor_network() -> None:
    asked = options_of(options(protect="FEC_50_50", rows=14, importance=None))
    settings = CameraSetup(asked).settings(asked)
    assert settings == {
        "mode": None,
        "split": "conv2_block1_add",
        "rows": 14,
        "packets": 1024,
        "codec": "sqrt4",
        "packets_per_datagram": "fit",
        "frame_bytes": CameraSetup(asked).frame_bytes,
        "protect": "FEC_50_50",
        "fec": "zfec",
        "importance": "activation",
        "compensate": False,
    }


@pytest.mark.parametrize(
    ("asked", "compensates"),
    [
        ({"importance": "proxy"}, True),
        ({"importance": "proxy", "compensate": True}, True),
        ({"importance": "proxy", "compensate": False}, False),
        ({"importance": "proxy-paper"}, False),
        ({"codec": "webp:75"}, False),
    ],
)
def test_compensation_is_on_where_it_can_be_done_and_is_not_forbidden(asked: dict[str, Any], compensates: bool) -> None:
    camera = options_of(options(**asked))
    assert CameraSetup(camera).settings(camera)["compensate"] is compensates


@pytest.mark.parametrize(
    "asked",
    [{"importance": "proxy-paper"}, {"importance": "activation"}, {"codec": "webp:75"}],
)
def test_compensation_that_is_asked_for_where_it_cannot_be_done_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^--compensate is for features without a bottleneck.*: leave it out$"):
        CameraSetup(options_of(options(**asked, compensate=True)))


@pytest.mark.parametrize(
    ("split", "codec", "name"),
    [
        ("conv2_block1_add", "auto", "sqrt4"),  # a ReLU follows
        ("pool1_pool", None, "sqrt4"),  # a ReLU is before it
        ("conv1_conv", "auto", "local6"),  # neither
        ("conv1_conv", "uniform4", "uniform4"),
    ],
)
def test_the_quantiser_is_the_users_or_the_best_for_the_cut(split: str, codec: str | None, name: str) -> None:
    setup = CameraSetup(options_of(options(split=split, codec=codec, importance="activation")))
    assert setup.coding.quantiser.name == name


def test_the_error_of_a_single_camera_is_raised_and_those_of_several_are_counted() -> None:
    full = GradfecError("disk full")
    raise_errors({"door": None, "yard": None})
    with pytest.raises(GradfecError, match=r"^disk full$"):
        raise_errors({"door": full})
    with pytest.raises(GradfecError, match=r"^1 of 2 cameras failed: yard$"):
        raise_errors({"door": None, "yard": full})
    with pytest.raises(ZeroDivisionError):  # our own fault is not hidden among theirs
        raise_errors({"door": full, "yard": ZeroDivisionError()})


def shown(cameras: int, lines: int, width: int = 80, warnings: tuple[str, ...] = ()) -> list[str]:
    statuses = [CameraStatus(f"[red]camera {n}\x1b") for n in range(cameras)]
    frame, answer = Frame(0, "a.png", np.zeros((4, 4, 3), np.uint8), 0.0), Classes(((281, "tabby", 0.5),))
    result, report = Result(0, "complete", answer.packed(), 8, 0, {}), Report(0, 100, 90, 1)
    plan = CameraSetup(options_of(options(importance="activation"))).coding.trial_plan()
    assert plan is not None
    sent = Sent(7, 0, plan, 1060)
    for status in statuses:
        status.ended(Story(frame, answer, sent, latency_ms=41.6, result=result, report=report, sent=100))
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(status_table([Row(status, LinkState.REFUSED, warnings) for status in statuses], lines))
    return capture.get().splitlines()


def test_each_camera_has_a_line_and_there_are_never_too_many() -> None:
    heading, line, sent = shown(1, 10)
    assert " ".join(heading.split()) == "camera answer link fps loss median source"
    assert " ".join(line.split()) == "[red]camera 0 tabby 0.50 refused 1.0 10.0 % 42 ms a.png"
    assert sent.strip() == "1 complete, 0 partial, 0 timeout; 106 kB a frame, 848 kbit/s"
    for cameras, lines in ((9, 10), (8, 10), (40, 10), (40, 3)):
        assert len(shown(cameras, lines)) <= lines
    assert shown(40, 10)[-1].strip() == "and 32 more"


def test_in_a_narrow_terminal_no_line_is_wrapped() -> None:
    assert len(shown(3, 10, width=60)) == 7


def test_warnings_stand_below_the_cameras_before_what_they_send_as_long_as_there_is_room() -> None:
    lines = [line.strip() for line in shown(2, 20, warnings=("the link is slow",))]
    assert lines[3:] == [
        *(f"[red]camera {n} : warning: the link is slow" for n in range(2)),
        *(f"[red]camera {n} : 1 complete, 0 partial, 0 timeout; 106 kB a frame, 848 kbit/s" for n in range(2)),
    ]
    assert [line.strip() for line in shown(2, 4, warnings=("the link is slow",))][3:] == lines[3:4]


def test_a_frames_line_in_the_log_says_why_it_was_planned_as_it_was_if_the_link_decides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    frame, answer = Frame(3, "a.png", np.zeros((4, 4, 3), np.uint8), 0.0), Classes(((281, "tabby", 0.5),))
    result = Result(0, "complete", answer.packed(), 8, 0, {})
    plan = CameraSetup(options_of(options(importance="activation"))).coding.trial_plan()
    assert plan is not None
    why = {"loss": 0.22, "burst": 6.0, "budget_kbit_s": 900.0}
    for reasons in (why, {}):
        log_frame(Log("a test"), Story(frame, answer, Sent(7, 0, plan, 1060, why=reasons), result=result))
    assert caplog.messages == [
        f"a.png: tabby 0.50 (complete): loss 22.0 % in runs of 6.0, {plan.sent} datagrams of which {plan.parity} "
        "parity, budget 900 kbit/s",
        "a.png: tabby 0.50 (complete)",
    ]
    assert [vars(record)["fields"].get("link") for record in caplog.records] == [why, None]


# --- pictures instead of features ---


@pytest.mark.parametrize("codec", ["jpeg", "webp:30", "progressive"])
def test_a_picture_is_cut_at_the_input_and_its_packets_matter_in_their_order(codec: str) -> None:
    asked = options_of(options(codec=codec, importance=None, split=None, protect=None))
    setup = CameraSetup(asked)
    settings = setup.settings(asked)
    assert (settings["split"], settings["packets"], settings["frame_bytes"]) == ("input_layer", 96, None)
    assert (settings["protect"], settings["importance"]) == ("auto", "order")
    assert not setup.design.runs_network
    assert setup.design.free is not None
    scores = setup.design.free(np.empty(0, np.uint8), np.empty(0, np.float32))
    assert (np.diff(scores) < 0).all() and len(scores) == 96


def test_a_picture_that_needs_all_its_packets_is_protected_without_dropping_any() -> None:
    made = CameraSetup(options_of(options(codec="webp", importance=None, split=None, protect="nested:20/30")))
    assert made.coding.policy.name == "nested:20/30"
    with pytest.raises(UsageError, match="FEC_10_90 drops 10 of 96 packets, and webp:75 needs all of them: use"):
        CameraSetup(options_of(options(codec="webp", importance=None, split=None, protect="FEC_10_90")))


def test_no_other_estimator_ranks_the_packets_of_a_picture() -> None:
    with pytest.raises(UsageError, match="webp:75 matter in their order: leave --importance activation out"):
        CameraSetup(options_of(options(codec="webp", importance="activation", split=None, protect=None)))


def test_an_edge_that_sends_pictures_needs_no_weights_and_makes_the_networks_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_key(tmp_path / "key", new_key(bytes))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    given = own_options(codec="jpeg", importance=None, split=None, protect=None)
    (model,) = front_ends(sessions_of([given], Log("gradfec-edge")), NO_RUNTIME, {}).values()
    image = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    found = model(image)
    np.testing.assert_array_equal(found.chi, normalise(image, RESNET50.preprocess))
    assert found.scores is None and found.damage is None


def test_an_edge_at_the_input_that_sends_elements_runs_no_network_either() -> None:
    asked = options(codec="uniform8", importance="activation", split="input_layer", rows=4)
    assert not CameraSetup(options_of(asked)).design.runs_network
    assert CameraSetup(options_of(options(importance="activation"))).design.runs_network


@pytest.mark.parametrize(
    ("named", "live", "title"),
    [
        ("/dev/video0", True, "/dev/video0"),
        ("rtsp://host/door", True, "rtsp://host/door"),
        ("/tmp/demo-s3kc3t5_/photos", False, "photos"),
        ("videos/pan.avi", False, "pan.avi"),
        (".", False, "."),
    ],
)
def test_a_page_is_called_after_its_camera_or_file(named: str, live: bool, title: str) -> None:
    camera = SimpleNamespace(
        source=SimpleNamespace(name=named, live=live), options=SimpleNamespace(key=SimpleNamespace(insecure=False))
    )
    page = cameras_module.page_of(Endpoint("127.0.0.1", 8080), [camera])  # type: ignore[list-item]
    assert page.title == title
    page = cameras_module.page_of(Endpoint("127.0.0.1", 8080), [camera, camera])  # type: ignore[list-item]
    assert page.title == "2 cameras"
