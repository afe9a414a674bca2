"""The command `gradfec-edge`: its help, and how soon it answers. tests/integration tests the rest."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from tests.common.small_tensors import OF_PARTS

from gradfec_common.codes import FEC
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.protect import POLICIES
from gradfec_common.quantisers import AUTO, BEST, QUANTISERS, default_cut
from gradfec_edge.cli import main
from gradfec_edge.coding import AUTO_PROTECT, PROTECT_UNKNOWN
from gradfec_edge.importance import DEFAULT_ESTIMATOR, ESTIMATORS, LATENT_ESTIMATOR, STREAM_ESTIMATOR
from gradfec_edge.modes import DEFAULTS, MODES
from gradfec_host.logs import printable

OPTIONS = (
    "camera cloud mode codec packets-per-datagram protect fec importance compensate rows split fps loop in-flight "
    "timeout-ms rate max-rate results metrics web thumbnail weights runtime key-file insecure name udp seed json"
)


def test_help_explains_every_option_and_the_exit_codes() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert [name for name in OPTIONS.split() if f"--{name}" not in text] == []
    assert "Exit codes: 0 finished, or stopped as asked; 1 something outside failed; 2 a wrong option." in text
    assert "gradfec-edge --camera /dev/video0 --cloud cloud.example:9000" in text


def said_of(option: str, following: str) -> str:
    """Return what the help says of an option."""
    text = " ".join(CliRunner().invoke(main, ["--help"], terminal_width=200).output.split())
    return text[text.index(f"--{option} ") : text.index(f"--{following} ")]


def test_help_names_every_estimator_and_the_default() -> None:
    said = said_of("importance", "compensate")
    assert [name for name in ESTIMATORS if name not in said] == []
    assert (
        f"[default: {DEFAULT_ESTIMATOR}, where one was learned for the split and rows, or with the bottleneck; "
        f"otherwise activation, and for a bottleneck {LATENT_ESTIMATOR}; for pictures, {STREAM_ESTIMATOR}]" in said
    )


def test_help_names_every_mode_policy_and_code_and_the_first_and_last_of_each_kind_of_quantiser() -> None:
    assert [name for name in MODES if f"{name}:" not in said_of("mode", "codec")] == []
    assert [form for form in POLICIES if form not in said_of("protect", "fec")] == []
    assert [name for name in FEC if name not in said_of("fec", "importance")] == []
    said = said_of("codec", "packets-per-datagram")
    for kind in ("uniform", "sqrt"):
        names = [name for name in QUANTISERS if name.startswith(kind)]
        assert f"{names[0]} to {names[-1]}" in said
    assert [name for name in QUANTISERS if name not in OF_PARTS and f"{name}:75" not in said] == []
    default = said.partition(f"[default: {AUTO}")[2]
    assert [name for name in BEST if name not in default] == []


@pytest.mark.parametrize(("option", "default"), [("codec", AUTO), ("fec", "zfec")])
def test_help_tells_the_defaults_that_a_mode_may_change(option: str, default: str) -> None:
    following = {"codec": "packets-per-datagram", "fec": "importance"}[option]
    assert f"[default: {default}" in said_of(option, following)
    assert DEFAULTS[option] == default


def test_help_tells_the_defaults_that_depend_on_the_codec() -> None:
    features = "features of the built-in network without a bottleneck"
    assert f"[default: {AUTO_PROTECT}; for {features}, {PROTECT_UNKNOWN}]" in said_of("protect", "fec")
    assert f"[default: {DEFAULT_CUT}; for pictures, {default_cut('webp', named_cut(DEFAULT_CUT)).name}; of " in said_of(
        "split", "fps"
    )


@pytest.mark.parametrize(
    ("text", "shown"), [("a plain sentence", "a plain sentence"), ("two\nlines \x1b[2J\x07", "two lines  [2J ")]
)
def test_a_peers_words_cannot_break_lines_or_steer_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
