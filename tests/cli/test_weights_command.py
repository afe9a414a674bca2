"""`gradfec weights` says where the weights are, whence they came and whether they are verified, and fails plainly."""

import json

import pytest
from click.testing import CliRunner

from gradfec_cli.weights_command import weights
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.weights import cache_path, ensure_weights, fetch


@pytest.fixture(scope="module")
def cached():
    return ensure_weights(RESNET50)


@pytest.fixture
def home(tmp_path, monkeypatch, cached):
    """A GRADFEC_HOME that shares the cached file; no test here writes into it, only beside or over it."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path / "home"))
    cache_path(RESNET50).parent.mkdir(parents=True)
    cache_path(RESNET50).symlink_to(cached.path)
    return tmp_path / "home"


def run(*arguments):
    return CliRunner().invoke(weights, [str(argument) for argument in arguments])


def test_cached_weights_are_shown_with_route_verification_and_size(home, cached):
    result = run()
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    assert str(cache_path(RESNET50)) in shown
    assert f"from {cached.route}" in shown
    assert "verified yes: every array has its pinned SHA-256" in shown
    assert "arrays 320, 25,636,712 parameters" in shown
    assert "up to conv2_block1_add: 86,656 parameters, 346,624 bytes" in shown


def test_json_is_one_object(home):
    facts = json.loads(run("--json").stdout)
    assert facts["path"] == str(cache_path(RESNET50))
    assert (facts["verified"], facts["arrays"], facts["parameters"]) == (True, 320, 25_636_712)
    assert facts["front_end"] == {
        "split": "conv2_block1_add",
        "arrays": 30,
        "parameters": 86_656,
        "bytes": 346_624,
    }


def test_the_front_end_of_any_split_can_be_written_out(home, tmp_path):
    out = tmp_path / "edge.npz"
    facts = json.loads(run("--front-end", "conv2_block1_add", "--out", out, "--json").stdout)
    assert (facts["path"], facts["split"], facts["arrays"]) == (str(out), "conv2_block1_add", 30)
    assert facts["bytes"] == out.stat().st_size < 400_000


def test_from_a_file_that_is_no_weights_fails_with_exit_code_1(home, tmp_path):
    (tmp_path / "bad.h5").write_bytes(b"bad")
    result = run("--from", tmp_path / "bad.h5")
    assert result.exit_code == 1
    assert f"error: cannot read {tmp_path / 'bad.h5'}" in result.output


def test_from_another_machines_archive_fills_the_cache(home, cached):
    cache_path(RESNET50).unlink()
    facts = json.loads(run("--from", cached.path, "--json").stdout)
    assert (facts["route"], facts["verified"]) == (str(cached.path), True)


def test_no_route_fails_with_exit_code_1_and_the_ways(home, monkeypatch, tmp_path):
    monkeypatch.setattr(fetch, "KERAS_DOWNLOAD", "raise SystemExit('no network')")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--refresh")
    assert result.exit_code == 1
    assert "no network" in result.output and "--from FILE" in result.output
    assert cache_path(RESNET50).exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--unverified"], "--unverified goes with --from"),
        (["--refresh", "--from", "x.h5"], "not both"),
        (["--front-end", "conv2_block1_add"], "go together"),
        (["--out", "edge.npz"], "go together"),
        (["--front-end", "conv2_block1_2_relu", "--out", "edge.npz"], "the branch from pool1_pool"),
        (["--front-end", "conv9", "--out", "edge.npz"], "has no layer 'conv9'"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_a_wrong_option_is_exit_code_2_with_the_reason(home, arguments, reason):
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in result.output
