"""How the page writes numbers, times and names."""

import pytest
from tests.web.world import Camera, status

from gradfec_common.cells import Cell
from gradfec_common.protect import POLICIES, read_policy
from gradfec_web import charts, words
from gradfec_web.history import History
from gradfec_web.policies import explained
from gradfec_web.view import Edge, Workers

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (9e5, "10 d"), (-3, "0 s")]
)
def test_a_span_is_written_in_its_largest_unit(seconds, text):
    assert words.span(seconds) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_what_is_not_known_is_a_dash():
    assert {words.number(None), words.percent(None), words.with_unit(None, "ms")} == {words.NONE}
    assert words.number(2048) == "2\N{NARROW NO-BREAK SPACE}048"
    assert words.percent(0.2144) == "21.4\N{NO-BREAK SPACE}%"


def test_each_fate_has_its_words():
    assert set(words.FATES) == set(Cell)


@pytest.mark.parametrize(
    ("listening", "cloud"),
    [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("0.0.0.0:9000", "HOST:9000"),
        ("[::]:9000", "HOST:9000"),
        (":9000", "HOST:9000"),
    ],
)
def test_an_edge_is_told_an_address_that_it_can_use(listening, cloud):
    assert words.cloud_for_edges(listening) == cloud


def test_an_edge_that_left_is_shown_with_the_reason_in_words():
    gone = Edge("kitchen", 1, "", False, NOW - 40, "idle")
    said = words.state(gone, NOW).replace("\N{NO-BREAK SPACE}", " ")
    assert said == "gone for 40 s: it was silent for too long"
    assert words.state(gone, NOW, "edge").startswith("without a cloud for")


@pytest.mark.parametrize(
    ("crew", "text"),
    [
        (Workers(1, 1, 0, False), "One worker is there."),
        (Workers(3, 3, 1, False), "3 workers are there. 1 was lost since the start."),
        (
            Workers(1, 3, 2, False),
            "1 of 3 workers are there. The others are being started. 2 were lost since the start.",
        ),
        (Workers(0, 2, 0, False), "No worker is there. No frame is answered until one is."),
        (Workers(0, 2, 0, True), "No worker is there. This process answers the frames itself until one is."),
    ],
)
def test_workers_are_counted_and_what_follows_is_said(crew, text):
    assert words.workers(crew) == text


def test_the_title_says_what_the_page_is():
    assert words.title(status("edge", NOW, [])) == "/dev/video0 – gradfec edge"
    assert words.title(None) == "gradfec"


def points(count=20):
    history, camera = History(), Camera("kitchen", 1)
    for n in range(2 * count):
        history.take(camera.frame(NOW + n)[0])
    return history.edges["kitchen"].points()


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.title)
def test_each_chart_says_in_words_what_it_draws(chart):
    past = points()
    text, drawn = charts.in_words(chart, past), charts.options(chart, past, NOW + 40)
    for series in drawn["series"]:
        last = series["data"][-1][1]
        assert f"{series['name']} {chart.write(last)} now" in text
        assert len(series["data"]) == len(past)


def test_stages_and_what_is_left_make_up_the_latency():
    for _, figures in points():
        split = charts.latency_by_stage(figures)
        assert list(split)[-1] == charts.REST
        assert sum(split.values()) == pytest.approx(figures.latency_ms)


def test_seconds_without_an_answer_are_no_point_of_the_latency_but_one_of_the_frame_rate():
    history, camera = History(), Camera("kitchen", 1)
    for at in (NOW, NOW + 10, NOW + 20):
        history.take(camera.frame(at)[0])
    past = history.edges["kitchen"].points()
    lengths = {chart.title: len(charts.options(chart, past, NOW)["series"][0]["data"]) for chart in charts.CHARTS}
    assert (lengths["Frame rate"], lengths["Latency by stage"], lengths["Loss"]) == (10, 2, 2)


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.title)
def test_a_chart_of_nothing_is_empty_and_says_so(chart):
    assert charts.options(chart, [], NOW)["series"] == []
    assert "nothing yet" in charts.in_words(chart, [])


@pytest.mark.parametrize("form", POLICIES)
def test_each_policy_is_explained(form):
    name = {"FEC_A_B": "FEC_37.5_62.5", "nested:k1,k2,...": "nested:4,8,12/16"}.get(form, form)
    said = explained(read_policy(name).name)
    assert said.startswith(f"{name}: ") and said.endswith(".")


def test_what_a_policy_does_is_said_with_its_own_numbers():
    assert "the 20 % of the packets that matter least are not sent" in explained("FEC_20_80")
    assert "the other 80 %" in explained("FEC_20_80")
    assert "any 4 of a frame's 12 for those that matter most, 12 for the rest" in explained("nested:4,8,12")
    assert "any 4 of a frame's 16 for those that matter most, 8 for the rest" in explained("nested:4,8/16")
    assert explained("of my own") == ""


def test_settings_are_words():
    given = {"fps": None, "compensate": False, "loop": True, "codes": ["zfec", "leopard"], "key_ids": [], "rows": 7}
    given |= {"timeout_ms": 2000, "receive_buffer_bytes": 4_194_304, "results": None, "rate": 0.5, "protect": "none"}
    said = {name: value.replace("\N{NO-BREAK SPACE}", " ") for name, value in words.settings(given).items()}
    assert said == {
        "fps": "not set",
        "compensate": "no",
        "loop": "yes",
        "codes": "zfec, leopard",
        "key ids": "none",
        "rows": "7",
        "timeout": "2\N{NARROW NO-BREAK SPACE}000 ms",
        "receive buffer": "4\N{NARROW NO-BREAK SPACE}194 kB",
        "results": "not set",
        "rate": "0.5",
        "protect": "none: every packet that is not all zeros is sent, and nothing repairs what the link loses.",
    }


def test_a_rate_is_written_in_the_unit_that_suits_it():
    assert words.rate(124.4) == "124\N{NO-BREAK SPACE}kbit/s"
    assert words.rate(20_480) == "20.5\N{NO-BREAK SPACE}Mbit/s"
