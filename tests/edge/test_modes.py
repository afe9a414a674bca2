"""Modes: what they imply, and that the user's own options count before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.codes import ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.networks import named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.protect import UnequalProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_edge.camera_setup import CameraOptions, CameraSetup, options_of
from gradfec_edge.cli import main
from gradfec_edge.modes import DEFAULTS, MODES, with_mode
from gradfec_host import codec_file
from gradfec_host.config import each_camera

GIVEN = ("--camera", "0", "--cloud", "127.0.0.1:9")


@pytest.fixture(autouse=True, scope="module")
def no_bottleneck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No bottleneck is shipped: test_bottlenecks.py has what is another way if one is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_file, "FOLDER", tmp_path_factory.mktemp("codecs"))
        yield


def cameras(*arguments: str) -> list[CameraOptions]:
    """Return the options of each camera, as the command has them."""
    with main.make_context("gradfec-edge", [*GIVEN, *arguments]) as context:
        return [options_of(camera) for camera in each_camera(context.params)]


def setup_of(*arguments: str) -> tuple[CameraSetup, dict[str, Any]]:
    (options,) = cameras(*arguments)
    made = CameraSetup(options)
    return made, made.settings(options)


def test_paper_mode_is_the_papers_setting() -> None:
    made, settings = setup_of("--mode", "paper", "--protect", "FEC_50_50")
    assert settings == {
        "mode": "paper",
        "split": "conv2_block1_add",
        "rows": 7,
        "packets": 2048,
        "codec": "uniform8",
        "packets_per_datagram": 1,
        "frame_bytes": 2048 * 463,  # seal 32, header 35, length and place 4, packet 392
        "protect": "FEC_50_50",
        "fec": "zfec",
        "importance": "proxy",
        "compensate": True,
    }
    assert made.coding.cut is named_cut("conv2_block1_add")
    assert made.coding.policy == UnequalProtection(50, ZFEC)


def test_without_a_mode_features_are_compact_and_packets_share_datagrams() -> None:
    made, settings = setup_of()
    assert (settings["mode"], settings["codec"], settings["packets_per_datagram"]) == (None, "sqrt4", "fit")
    assert (settings["protect"], settings["fec"], settings["importance"]) == ("FEC_20_80", "zfec", "proxy")
    assert made.frame_bytes == settings["frame_bytes"] < 500_000


@pytest.mark.parametrize("arguments", ["--mode paper --codec sqrt4", "--codec sqrt4 --mode paper"])
def test_an_option_that_the_user_gives_counts_before_the_mode_in_any_order(arguments: str) -> None:
    (options,) = cameras(*arguments.split())
    assert (options.codec, options.packets_per_datagram, options.importance) == ("sqrt4", 1, "proxy")


def test_every_option_of_a_mode_is_one_of_the_command_and_is_not_given_by_itself() -> None:
    with main.make_context("gradfec-edge", [*GIVEN]) as context:
        for implied in (DEFAULTS, *MODES.values()):
            assert {context.params[name] for name in implied} == {None}


def test_what_no_mode_says_stays_as_it_is() -> None:
    given = dict.fromkeys(DEFAULTS) | dict.fromkeys(MODES["paper"]) | {"mode": "paper", "rows": 14, "protect": "none"}
    assert with_mode(given) == given | {
        "codec": "uniform8", "fec": "zfec", "packets_per_datagram": 1, "importance": "proxy",
    }  # fmt: skip


def test_each_camera_of_a_file_may_have_a_mode_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(
        'cloud = "127.0.0.1:9"\ncodec = "uniform6"\n'
        '[[camera]]\nname = "a"\ncamera = "0"\nmode = "paper"\n[[camera]]\nname = "b"\ncamera = "1"\n'
        '[[camera]]\nname = "c"\ncamera = "2"\nmode = "paper"\ncodec = "sqrt2"\n'
    )
    with main.make_context("gradfec-edge", ["--config", str(path)]) as context:
        found = [options_of(camera) for camera in each_camera(context.params)]
    # What a file says for all cameras is an option that the user gives, too.
    assert [(of.codec, of.packets_per_datagram) for of in found] == [("uniform6", 1), ("uniform6", None), ("sqrt2", 1)]


CUTS = [cut.name for cut in RESNET50.cuts]
NESTED = st.builds(
    lambda ks, more: f"nested:{','.join(map(str, sorted(ks)))}/{max(ks) + more}",
    st.sets(st.integers(1, 300), min_size=1, max_size=40),
    st.integers(0, 20),
)
DROPPED = st.sampled_from(["0", "0.1", "20", "33.3", "50", "99.9", "100"])
FEC = DROPPED.map(lambda percent: f"FEC_{percent}_{100 - float(percent):g}")


@given(
    split=st.sampled_from(CUTS),
    rows=st.integers(1, 56),
    codec=st.sampled_from([None, "auto", *QUANTISERS]),
    most=st.none() | st.integers(1, 300),
    protect=st.just("none") | FEC | NESTED,
    fec=st.sampled_from([None, "zfec:2", "zfec:256", "leopard"]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_options_are_they_are_decided_or_refused_in_one_line(
    split: str, rows: int, codec: str | None, most: int | None, protect: str, fec: str | None
) -> None:
    with main.make_context("gradfec-edge", [*GIVEN]) as context:
        chosen = {"split": split, "rows": rows, "codec": codec, "packets_per_datagram": most, "protect": protect}
        options = options_of({**context.params, **chosen, "fec": fec, "importance": "activation"})
    try:
        made = CameraSetup(options)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        is_known = made.coding.quantiser.sizes(made.coding.grid) is not None
        assert (made.frame_bytes is not None and made.frame_bytes > 0) is is_known
