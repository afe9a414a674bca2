"""`gradfec bench end-to-end` through the real daemons, with few frames. No time is asserted."""

import json

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_lab.bench.end_to_end import WARM_UP, Flow

pytestmark = pytest.mark.daemons


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        (("proxy",), ("--importance", "proxy")),
        pytest.param(
            ("static", "random"), ("--codec", "uniform8", "--importance", "static,random"), marks=pytest.mark.slow
        ),
    ],
)
def test_frames_are_timed_from_the_edge_to_the_answer_and_set_against_the_uncut_model(names, codec):
    done = CliRunner().invoke(main, ["bench", "end-to-end", "--frames", "10", "--json", *codec])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["runtime"] == "litert"
    assert {*said["end_to_end"]} == {*names}
    ratios = said["ratios"]
    assert {*ratios} == {
        f"end_to_end_{of}{name}" for of in ("rate", "latency") for name in ("", "_random")[: len(names)]
    }
    for name, suffix in zip(names, ("", "_random"), strict=False):
        found = said["end_to_end"][name]
        rates, alone = found["frames_a_second"], found["one_at_a_time_ms"]
        assert ratios[f"end_to_end_rate{suffix}"] == pytest.approx(rates["daemons"] / rates["uncut"])
        assert ratios[f"end_to_end_latency{suffix}"] == pytest.approx(alone["latency"]["p50"] / found["halves_ms"])
        assert {"front_end", "encode", "send", "decode", "back_end", "latency"} <= {*alone}
        assert alone["latency"]["p50"] > alone["back_end"]["p50"] > 0
        assert min(found["cpu_ms_a_frame"].values()) > 0
        assert {sum(outcomes.values()) for outcomes in found["outcomes"].values()} == {10}
        assert found["start_to_first_answer_ms"] > alone["latency"]["p50"]


def test_the_rate_is_that_of_the_frames_after_the_warm_up():
    came = [0.0, 5.0, 5.1, 5.2, 5.3, 10.0, 10.5, 11.0]
    assert len(came) == WARM_UP + 3
    assert Flow([], came, {}).frames_a_second == pytest.approx(2.0)
