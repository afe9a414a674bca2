"""`gradfec bench udp` on few datagrams: what it prints is all there and agrees with itself. No time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cli.cli import main
from gradfec_common.errors import GradfecError
from gradfec_edge import udp as edge_udp
from gradfec_lab.bench import udp
from gradfec_lab.bench.udp import loopback, one_run

FEW = ("--packets", "100", "--runs", "3")


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "udp", *arguments])


def test_json_has_the_machine_both_paths_and_ratios_of_batched_over_plain() -> None:
    done = bench(*FEW, "--bytes", "200", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {*said} == {"machine", "packets", "bytes", "runs", "udp", "ratios", "ratios_are"}
    assert (said["packets"], said["bytes"], said["runs"]) == (100, 200, 3)
    plain, batched = said["udp"]["plain"], said["udp"]["batched"]
    assert min([*plain.values(), *batched.values()]) > 0
    assert said["ratios"] == {
        "udp_send": batched["send_cpu_us"] / plain["send_cpu_us"],
        "udp_receive": batched["receive_cpu_us"] / plain["receive_cpu_us"],
    }
    assert "batched over plain" in said["ratios_are"]


def test_the_table_has_both_paths_and_says_the_ratios_in_words() -> None:
    text = bench(*FEW).stdout
    assert "100 datagrams of 458 B over loopback, median of 3 runs" in text
    assert "\n  plain " in text and "\n  batched " in text
    assert text.count("of the CPU time of plain,") == 2


@pytest.mark.parametrize("batched", [True, False])
def test_what_does_not_fit_the_receive_buffer_goes_bit_by_bit(batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp.Loopback, "room", 7)
    with loopback(batched=batched) as way:
        got = []
        receive = way.port.receive
        monkeypatch.setattr(
            way.port, "receive", lambda: got.append(batch.buffer.copy()) or batch if (batch := receive()) else None
        )
        datagrams = np.random.default_rng(1).integers(0, 256, (30, 100), np.uint8)
        assert min(one_run(way, datagrams)) >= 0
    np.testing.assert_array_equal(np.concatenate([rows[:, :100] for rows in got]), datagrams)


def test_a_kernel_without_batches_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_udp, "UDP_SEGMENT", 9999)  # an option that no kernel has
    done = bench(*FEW)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: this kernel has no UDP_SEGMENT or no UDP_GRO")
    assert "use Linux 5.0 or later" in done.stderr


def test_datagrams_that_do_not_come_are_an_error_that_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "LATEST_S", 0.05)
    with loopback(batched=True) as way:
        way.send(np.zeros((5, 100), np.uint8))
        with pytest.raises(GradfecError, match="3 datagrams were lost over loopback, 0 of them to a full receive"):
            [*way.receive(8)]
