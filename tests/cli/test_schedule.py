"""A link that changes while it runs: the file, the channel, and the real process on loopback."""

import socket
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli import netem
from gradfec_cli.channel import Channel, ChannelSettings
from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.schedule import read_schedule
from gradfec_common.errors import GradfecError


def schedule(tmp_path, text):
    path = tmp_path / "walk.txt"
    path.write_text(text)
    return read_schedule(path)


def test_a_line_is_a_time_and_the_link_from_then_on(tmp_path):
    text = "# a walk\n\n5 --rate 1 --queue 50 --delay 40 --back-delay 40  # slow\n12.5 --loss 20% --burst 8\n"
    first, second = schedule(tmp_path, text)
    assert (first.at_s, second.at_s) == (5, 12.5)
    assert first.up == ChannelSettings(rate_bps=1e6, queue_datagrams=50, delay_s=0.04)
    assert first.back == ChannelSettings(delay_s=0.04)
    assert second.up == ChannelSettings(loss=0.2, burst=8)  # nothing of the line before is left
    assert second.back == ChannelSettings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no line: write for example"),
        ("1 --loss 10%\nsoon --loss 5%\n", "line 2: 'soon' is not a number of seconds, at least 0"),
        ("2 --loss 10%\n2 --loss 5%\n", "line 2: 2 s is not after 2 s"),
        ("1 --lose 10%\n", "line 1: No such option"),
        ("1 10%\n", "line 1: Got unexpected extra argument"),
        ("1 --queue 5\n", "line 1: --queue has no effect without --rate: give both"),
        ("1 --record a.txt\n", "line 1: --record is for the whole run"),
        ("1 --loss '10%\n", "line 1: No closing quotation"),
        ("1 --loss 80% --burst 2\n", "line 1: the way up: a mean loss of 80 % in bursts of 2 is impossible"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, complaint):
    with pytest.raises(GradfecError, match=complaint):
        schedule(tmp_path, text)


def test_a_schedule_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(GradfecError, match=r"cannot read the schedule .*missing.txt: No such file"):
        read_schedule(tmp_path / "missing.txt")


def test_a_channel_that_changes_keeps_what_it_holds_and_treats_the_rest_anew():
    link = Channel(ChannelSettings(delay_s=1.0), np.random.default_rng(1))
    link.send([("route", b"slow")], 0.0)
    link.change(ChannelSettings())
    link.send([("route", b"fast")], 0.1)
    assert link.deliver(0.1) == [("route", b"fast")]
    assert link.next_timer() == 1.0
    link.change(ChannelSettings(loss=1.0))
    assert link.send([("route", b"lost")], 0.2).all()
    assert link.deliver(1.0) == [("route", b"slow")]
    assert (link.totals.received_bytes, link.totals.delivered, link.totals.dropped_loss) == (12, 2, 1)
    assert link.totals.unaccounted() == 0


def test_headers_count_for_the_rate_as_told():
    link = Channel(ChannelSettings(rate_bps=8000, header_bytes=0), np.random.default_rng(1))
    link.send([("route", bytes(1000))], 0.0)
    assert link.next_timer() == 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="needs add_reader and signals")
def test_the_clock_starts_with_the_first_datagram(tmp_path):
    walk = tmp_path / "walk.txt"
    walk.write_text("0.5 --loss 100%\n")
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        options = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{server.getsockname()[1]}", "--json"]
        with daemon("gradfec-netem", *options, "--schedule", str(walk), ready="listening on") as relay:
            time.sleep(0.7)  # without a datagram, the link stays as it is
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(("127.0.0.1", port))
                client.send(b"first")
                assert server.recv(100) == b"first"
                time.sleep(1)
                client.send(b"second")
                time.sleep(0.2)
            up = relay.totals()["up"]
    assert (up["received"], up["delivered"], up["dropped_loss"], up["received_bytes"]) == (2, 1, 1, 11)


def test_the_help_shows_a_schedule():
    said = CliRunner().invoke(netem.main, ["--help"]).stdout
    assert "--schedule FILE" in said
    assert "30 --loss 20% --burst 8 --delay 40" in said
