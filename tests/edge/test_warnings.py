"""Warnings: of a link that is too slow for what is sent, told apart from one that loses whatever is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD, TIGER_CAT
from tests.edge.slow_link import IMAGE, Simulated, link
from tests.untrained import write_codec

from gradfec_common.codes import CODES, LEOPARD, fec_code
from gradfec_common.networks import named_cut
from gradfec_common.protect import read_policy
from gradfec_common.wire import Report, Result
from gradfec_edge.advice import protection_for, smaller_frames
from gradfec_edge.coding import Coding, coding_of
from gradfec_edge.frames import Frame
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.story import Sent, Story
from gradfec_edge.warnings import Warnings
from gradfec_host import codec_file
from gradfec_host.logs import Log

CUT = named_cut("conv2_block1_add")
STANDARD = coding_of(CUT, 7, "sqrt4", "FEC_20_80", "zfec")  # 436 kB a frame, in 410 datagrams
OFFERED = 8 * 435.4  # kbit/s, for each frame a second
SMALL = coding_of(named_cut("conv5_block3_out"), 7, "sqrt2", "FEC_20_80", "zfec")  # in a few dozen datagrams

AUTO = replace(SMALL, policy=read_policy("auto"))


@pytest.fixture(autouse=True)
def no_bottleneck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No bottleneck is shipped, unless a test puts one into this folder."""
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)
    return tmp_path


class Warned:
    """The warnings about a simulated link, and what was logged."""

    def __init__(
        self,
        caplog: pytest.LogCaptureFixture,
        coding: Coding,
        fps: float | None = 5.0,
        max_rate_mbit_s: float | None = None,
    ) -> None:
        caplog.set_level("INFO")
        self.caplog, self.fps = caplog, fps
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, dict, insecure=False).camera("door")
        interval_s = None if fps is None else 1 / fps
        self.warnings = Warnings(coding, lambda: interval_s, None, max_rate_mbit_s, Log("gradfec-edge"), metrics)
        self.number = 0

    def after(self, simulated: Simulated, seconds: float = 30.0) -> list[str]:
        """Let frames pass, and return the events that were logged."""
        for over, story in sorted(simulated.run(seconds), key=lambda one: one[0]):
            self.warnings.ended(story, over)
        return self.events

    def end(
        self,
        at: float,
        coding: Coding,
        *,
        partial: bool,
        received: float,
        budget_kbit_s: float | None = None,
        answered: bool = True,
    ) -> None:
        """End a frame, of whose datagrams a share was received; under `auto`, it was planned for a budget."""
        plan = coding.trial_plan()
        assert plan is not None
        report = Report(self.number, plan.sent, round(received * plan.sent), 0)
        result = Result(self.number, "partial" if partial else "complete", TIGER_CAT.packed(), 0, 9 * partial, {})
        why = {"budget_kbit_s": budget_kbit_s} if budget_kbit_s else {}
        sent = Sent(1, self.number, plan, 1060, why=why)
        frame = Frame(self.number, "door", IMAGE, at)
        heard = {"result": result, "report": report} if answered else {}
        self.warnings.ended(Story(frame, TIGER_CAT, sent, sent=plan.sent, **heard), at)
        self.number += 1

    @property
    def events(self) -> list[str]:
        return [record.event for record in self.caplog.records]

    def gauge(self, warning: str) -> float | None:
        return self.registry.get_sample_value("gradfec_edge_warning", {"camera": "door", "warning": warning})


# --- a link that is too slow ---


@pytest.mark.parametrize(
    "protect", ["FEC_20_80", *(pytest.param(one, marks=pytest.mark.slow) for one in ("none", "FEC_50_50"))]
)
@pytest.mark.parametrize(
    ("queue", "share"), [(50, 0.2), (50, 0.5), (50, 0.8), (1000, 0.8), (10_000, 0.5), (10_000, 0.8)]
)
def test_a_link_that_carries_less_than_is_sent_is_warned_of_once(
    queue: int, share: float, protect: str, caplog: pytest.LogCaptureFixture
) -> None:
    coding = replace(STANDARD, policy=read_policy(protect))
    warned = Warned(caplog, coding)
    assert warned.after(Simulated(coding, link(5 * share * OFFERED, queue), 5.0)) == ["congestion"]
    assert warned.gauge("congestion") == 1
    assert len(warned.warnings.texts) == 1


@pytest.mark.parametrize("coding", [STANDARD, SMALL], ids=["standard", "small"])
@pytest.mark.parametrize("settings", [
    {}, {"loss": 0.1}, {"loss": 0.3}, {"loss": 0.5}, {"loss": 0.3, "burst": 8.0}, {"loss": 0.1, "burst": 30.0},
    {"delay_s": 0.3}, {"delay_s": 0.02, "jitter_s": 0.01},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("fps", [2.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_a_link_that_loses_or_delays_whatever_is_sent_is_not_taken_for_a_slow_one(
    fps: float, settings: dict[str, float], coding: Coding, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(2):
        warned = Warned(caplog, coding, fps)
        assert "congestion" not in warned.after(Simulated(coding, link(seed=seed, **settings), fps), 20)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("queue", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_link_with_half_as_much_again_to_spare_is_not_too_slow(
    queue: int, loss: float, caplog: pytest.LogCaptureFixture
) -> None:
    warned = Warned(caplog, STANDARD)
    channel = link(1.5 * 5 * OFFERED, queue, loss=loss)
    assert warned.after(Simulated(STANDARD, channel, 5.0)) == []


def test_small_frames_that_are_too_much_for_a_link_are_warned_of_too(caplog: pytest.LogCaptureFixture) -> None:
    offered = 8 * (SMALL.check() or 0) / 1000 * 5
    assert Warned(caplog, SMALL).after(Simulated(SMALL, link(offered / 2, 5), 5.0)) == ["congestion"]


def test_a_rate_that_is_too_low_for_the_frames_is_congestion(caplog: pytest.LogCaptureFixture) -> None:
    low = Simulated(STANDARD, link(), 5.0, rate_mbit_s=5 * OFFERED / 2000)
    assert Warned(caplog, STANDARD).after(low) == ["congestion"]
    assert "ms to send, and the next comes after" in caplog.text


def test_frames_that_may_take_their_time_congest_no_link_that_loses_none(caplog: pytest.LogCaptureFixture) -> None:
    slow = Simulated(STANDARD, link(3.3 * OFFERED, 10_000), None, frame_every_s=0.05)
    assert Warned(caplog, STANDARD, None).after(slow) == []


def test_the_warning_has_the_numbers_and_the_options_that_help(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD)
    warned.after(Simulated(STANDARD, link(2 * OFFERED, 50), 5.0))
    (text,) = caplog.messages
    assert text.startswith(
        "the link carries less than is sent: 436 kB a frame at 5 frames/s are 17433 kbit/s, and about "
    )
    carried = float(text.partition(" and about ")[2].partition(" kbit/s arrive")[0])
    assert 0.7 * 2 * OFFERED < carried <= 2 * OFFERED
    assert text.endswith(": lower --fps to 1.4, or make frames smaller with --codec sqrt2 (220 kB)")
    assert "--protect none" not in text  # FEC_A_B sends no more than that


def test_a_queue_that_frames_overflow_though_it_has_pauses_is_helped_by_sending_evenly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Warned(caplog, STANDARD).after(Simulated(STANDARD, link(4.3 * OFFERED, 50), 5.0))
    (text,) = caplog.messages
    rate = float(text.partition(" with --rate ")[2].partition(",")[0])
    fps = float(text.partition("lower --fps to ")[2].partition(" ")[0])
    caplog.clear()
    helped = Simulated(STANDARD, link(4.3 * OFFERED, 50), fps, rate_mbit_s=rate)
    assert Warned(caplog, STANDARD, fps).after(helped) == []


def test_a_camera_that_is_faster_than_the_edge_box_is_counted_at_the_rate_that_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Warned(caplog, STANDARD, 30.0).after(Simulated(STANDARD, link(2 * OFFERED, 50), 5.0))
    (text,) = caplog.messages
    assert float(text.partition(" a frame at ")[2].partition(" frames/s")[0]) == pytest.approx(5.0, rel=0.1)


def test_frames_that_are_given_up_all_at_once_say_nothing_of_the_link(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD, 5.0)
    plan = STANDARD.trial_plan()
    assert plan is not None
    for at in (0.0, 5.0, *[10.0] * 12):
        frame, sent = Frame(0, "door", IMAGE, at), Sent(1, 0, plan, 1060)
        warned.warnings.ended(Story(frame, HEAD.no_answer, sent, {"send": 100.0}, sent=plan.sent), at)
    assert warned.events == []


def test_only_options_that_make_frames_smaller_are_named() -> None:
    assert smaller_frames(coding_of(CUT, 7, "sqrt2", "FEC_20_80", "zfec")) == []
    nested = coding_of(named_cut("pool1_pool"), 14, "sqrt2", "nested:60/120", "zfec")
    assert [option.partition(" (")[0] for option in smaller_frames(nested)] == ["--protect none"]


def test_a_shipped_bottleneck_is_what_makes_frames_smaller_and_its_own_get_coarser(no_bottleneck: Path) -> None:
    (no_bottleneck / "resnet50").mkdir()
    path = write_codec(no_bottleneck / "resnet50" / f"{CUT.name}.npz")
    read = codec_file.CodecFile.read(path)
    codec_file.CodecFile(path, {**read.about, "worth": {"quality": [[3, 5400, 0.8]]}}, read.arrays).write()
    assert smaller_frames(STANDARD) == ["--codec bottleneck (5.4 kB)", "--codec sqrt2 (220 kB)"]
    assert smaller_frames(coding_of(CUT, None, "auto", None, "zfec")) == ["a lower --quality"]
    sized = coding_of(CUT, None, "auto", None, "zfec", bytes_a_frame=9000)
    assert smaller_frames(sized) == ["a lower --bytes-per-frame"]
    assert smaller_frames(coding_of(named_cut("input_layer"), None, "webp:20", None, "zfec")) == []


def test_a_warning_is_over_ten_seconds_after_its_reason_and_can_come_again(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD)
    slow, fast = ([*Simulated(STANDARD, link(kbit_s), 5.0).run(25)] for kbit_s in (2 * OFFERED, 20 * OFFERED))
    for start, stories in ((0, slow), (25, fast), (50, fast), (75, slow)):
        for over, story in stories:
            warned.warnings.ended(story, start + over)
    assert [event for event in warned.events if event.startswith("congestion")] == [
        "congestion",
        "congestion_over",
        "congestion",
    ]


# --- a link that carries less than `auto` would like to send ---


def auto_frame_kbit() -> float:
    """Return what a frame takes of the budget."""
    plan = AUTO.trial_plan()
    assert plan is not None
    return 8 * plan.sent * (1060 + 28) / 1000


def test_when_the_budget_forces_auto_to_leave_frames_out_it_says_so_once_until_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warned, two_a_second = Warned(caplog, AUTO, 5.0), 2 * auto_frame_kbit()
    for n in range(60):
        warned.end(0.5 * n, AUTO, partial=False, received=1.0, budget_kbit_s=two_a_second)
        assert warned.events == (["congestion"] if n >= 20 else [])
    (text,) = caplog.messages
    assert text.startswith(f"the link carries about {two_a_second:.0f} kbit/s, and ")
    assert f" a frame at 5 frames/s need {2.5 * two_a_second:.0f} kbit/s, so only about 2 frames/s are sent" in text
    assert text.endswith(": lower --fps to 2, or use a faster link")
    for n in range(150):
        warned.end(30 + 0.2 * n, AUTO, partial=False, received=1.0, budget_kbit_s=5 * two_a_second)
    assert warned.events == ["congestion", "congestion_over"]
    assert (warned.gauge("congestion"), warned.warnings.texts) == (0, ())


@pytest.mark.parametrize(
    ("fps", "every_s", "budget_fps"),
    [
        (5.0, 0.2, 5.5),  # there is room for all frames
        (5.0, 1.0, 2.0),  # the edge box is slower than the budget
        (None, 0.5, 2.0),  # no rate is asked for: a folder's frames wait, and none is left out
    ],
)
def test_auto_says_nothing_of_the_budget_if_it_is_not_what_keeps_frames_back(
    fps: float | None, every_s: float, budget_fps: float, caplog: pytest.LogCaptureFixture
) -> None:
    warned = Warned(caplog, AUTO, fps)
    for n in range(60):
        budget_kbit_s = budget_fps * auto_frame_kbit()
        warned.end(every_s * n, AUTO, partial=False, received=1.0, budget_kbit_s=budget_kbit_s)
    assert warned.events == []


def test_where_max_rate_limits_the_budget_it_is_named_as_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    limit = 2 * auto_frame_kbit() / 1000
    warned = Warned(caplog, AUTO, 5.0, max_rate_mbit_s=limit)
    for n in range(30):
        warned.end(0.5 * n, AUTO, partial=False, received=1.0, budget_kbit_s=1000 * limit)
    (text,) = caplog.messages
    assert text.endswith(f": lower --fps to 2, or raise --max-rate {limit:g}")


def test_under_auto_no_option_is_named_for_what_auto_does_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    warned, much = Warned(caplog, AUTO, 5.0), 20 * auto_frame_kbit()
    for n in range(100):
        warned.end(0.2 * n, AUTO, partial=True, received=0.4, budget_kbit_s=much)
    (text,) = caplog.messages
    assert (warned.events, warned.gauge("partial")) == (["partial"], 1)
    assert text.startswith("for 10 s, 100 % of the answers have been partial: the link loses 6")
    assert text.endswith(f"more than the parity in the budget of {much:.0f} kbit/s repairs: fix the link")


def test_a_link_that_is_too_slow_for_frames_under_another_policy_is_not_judged_so_under_auto(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Simulated(AUTO, link(8 * (AUTO.check() or 0) / 1000 * 2.5, 5), 5.0)
    assert "congestion" not in Warned(caplog, AUTO).after(slow)


# --- a link that loses ---


def test_where_frames_could_follow_the_link_auto_is_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    fixed = coding_of(named_cut("input_layer"), None, "progressive", "FEC_10_90", "zfec")
    plan = replace(SMALL, policy=fixed.policy)  # any plan of the same policy
    warned = Warned(caplog, fixed, None)
    for n in range(60):
        warned.end(0.2 * n, plan, partial=True, received=0.7)
    assert caplog.messages[0].endswith("more than --protect FEC_10_90 repairs; --protect auto adapts to that")


def test_answers_that_stay_partial_for_ten_seconds_are_warned_of_once_until_they_are_complete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warned = Warned(caplog, STANDARD, None)
    for n in range(100):  # five a second
        warned.end(0.2 * n, STANDARD, partial=n > 5, received=0.7)
        assert warned.events == (["partial"] if n >= 50 else [])
    assert warned.gauge("partial") == 1
    assert caplog.messages[0].endswith(
        "of the answers have been partial: the link loses 30.0 % of the datagrams, more than "
        "--protect FEC_20_80 repairs; --protect FEC_40_60 would"
    )
    for n in range(100, 250):
        warned.end(0.2 * n, STANDARD, partial=False, received=0.7)
    assert warned.events == ["partial", "partial_over"]
    assert (warned.gauge("partial"), warned.warnings.texts) == (0, ())


def test_answers_are_not_called_complete_again_while_none_comes(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD, None)
    for n in range(100):
        warned.end(0.2 * n, STANDARD, partial=True, received=0.7)
    for n in range(100, 250):
        warned.end(0.2 * n, STANDARD, partial=False, received=0.7, answered=n % 3 == 0)
    assert warned.events == ["partial"]


@pytest.mark.parametrize(("received", "says_so"), [(0.08, True), (0.6, False)])
def test_where_most_is_lost_what_arrives_is_told_because_the_link_may_be_slow_and_not_bad(
    received: float, says_so: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warned = Warned(caplog, STANDARD, 5.0)
    for n in range(60):
        warned.end(0.2 * n, STANDARD, partial=True, received=received)
    (text,) = caplog.messages
    assert ("kbit/s are sent and" in text) == says_so
    if says_so:
        assert "fix the link. 17384 kbit/s are sent and 1399 arrive: if the link carries no more than that" in text
        assert "send less, with --codec sqrt2 (" in text


def test_a_few_partial_answers_or_some_after_a_pause_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD, None)
    for n in range(100):
        warned.end(0.2 * n, STANDARD, partial=n % 3 == 0, received=0.7)
    for n in range(10):
        warned.end(100 + 0.2 * n, STANDARD, partial=True, received=0.7)
    assert warned.events == []


def test_while_the_link_is_too_slow_nobody_is_told_to_send_more_parity(caplog: pytest.LogCaptureFixture) -> None:
    warned = Warned(caplog, STANDARD)
    for n in range(100):
        warned.end(0.2 * n, STANDARD, partial=True, received=0.7)
    assert warned.events == ["partial"]
    for over, story in Simulated(STANDARD, link(2 * OFFERED, 50), 5.0).run(30):
        warned.warnings.ended(story, 20 + over)
    assert warned.events == ["partial", "congestion"]
    assert len(warned.warnings.texts) == 1


@pytest.mark.parametrize(
    ("loss", "protect", "fec", "option"),
    [
        (0.001, "none", "zfec", "--protect FEC_5_95"),
        (0.013, "none", "zfec", "--protect FEC_5_95"),
        (0.31, "FEC_20_80", "zfec", "--protect FEC_45_55"),
        (0.31, "FEC_20_80", "leopard", "--protect FEC_35_65"),
        (0.45, "nested:20,60/90", "zfec", "--protect FEC_60_40"),
        (0.31, "FEC_45_55", "leopard", "--protect FEC_50_50"),  # it should have been enough: losses in bursts
        (0.80, "FEC_50_50", "zfec", ""),
    ],
)
def test_the_policy_that_is_named_repairs_the_loss(loss: float, protect: str, fec: str, option: str) -> None:
    assert protection_for(loss, read_policy(protect, fec_code(fec))) == option


@pytest.mark.parametrize("installed", [True, False])
def test_against_bursts_longer_code_words_are_named_if_they_are_installed(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed:
        monkeypatch.setitem(CODES, LEOPARD.id, LEOPARD)
    else:
        monkeypatch.delitem(CODES, LEOPARD.id, raising=False)
    option = protection_for(0.2, read_policy("FEC_30_70"))
    assert option == ("--fec leopard" if installed else "--protect FEC_35_65")


# --- a cloud that is too slow ---


def unanswered(warned: Warned, at: float, *, received: float) -> None:
    """End a frame without an answer, a share of whose datagrams has arrived."""
    plan = SMALL.trial_plan()
    assert plan is not None
    report = Report(warned.number, plan.sent, round(received * plan.sent), 0)
    sent = Sent(1, warned.number, plan, 1060)
    frame = Frame(warned.number, "door", IMAGE, at)
    warned.warnings.ended(Story(frame, None, sent, sent=plan.sent, report=report), at)
    warned.number += 1


def test_a_cloud_that_answers_few_of_the_frames_that_arrive_is_said_to_be_too_slow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warned = Warned(caplog, SMALL)
    for number in range(60):  # five a second, of which every fifth is answered
        if number % 5:
            unanswered(warned, number / 5, received=1.0)
        else:
            warned.end(number / 5, SMALL, partial=False, received=1.0)
    assert warned.events == ["slow_cloud"]
    assert caplog.messages == [
        "for 10 s, most frames have arrived and had no answer in time: the cloud answers 1 of 5 frames a second; lower "
        "--fps to 1, or raise --timeout-ms, or use a faster cloud"
    ]
    assert warned.gauge("slow_cloud") == 1
    for number in range(60, 200):
        warned.end(number / 5, SMALL, partial=False, received=1.0)
    assert warned.events == ["slow_cloud", "slow_cloud_over"]
    assert warned.gauge("slow_cloud") == 0


@pytest.mark.parametrize("received", [1.0, 0.9])
def test_a_cloud_that_answers_nothing_of_what_arrives_or_is_repaired_is_too_slow_for_any_rate(
    received: float, caplog: pytest.LogCaptureFixture
) -> None:
    warned = Warned(caplog, SMALL)
    for number in range(60):
        unanswered(warned, number / 5, received=received)
    assert "answers 0 of 5 frames a second; raise --timeout-ms, or use a faster cloud" in caplog.messages[0]


def test_frames_without_an_answer_that_have_not_arrived_are_not_the_clouds_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warned = Warned(caplog, SMALL)
    for number in range(100):
        unanswered(warned, number / 5, received=0.5)
    assert "slow_cloud" not in warned.events
