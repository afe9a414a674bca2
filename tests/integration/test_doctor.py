"""`gradfec doctor --cloud`: a cloud that answers, one that refuses, one with another key, and no cloud."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gradfec_cli.daemons import free_port, own_key
from gradfec_cli.doctor import reach
from gradfec_cli.doctor.finding import State
from gradfec_cli.doctor.reach import Visit, cloud, has_cloud, judge, visit
from gradfec_common import wire
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.networks import named_cut
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.console import Endpoint
from gradfec_host.key_files import read_key

from .fake_cloud import fake_cloud
from .stubbed import stubbed

CUT = named_cut("pool1_pool")  # of the toys
OTHER = named_cut("conv2_block1_add")
WHERE = Endpoint("cloud.example", 9000)


@pytest.fixture(scope="module")
def key() -> HandshakeKey:
    return HandshakeKey(read_key(own_key()))


def test_a_cloud_that_has_the_key_answers_every_ping_and_the_visit_leaves_no_session(key: HandshakeKey) -> None:
    port = free_port()
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json") as running:
        where = Endpoint("localhost", port)
        found = cloud(where, key, CUT, 5)
        assert has_cloud(where, key, CUT)
        totals = running.totals()
    assert found.state is State.OK, found.text
    assert found.facts["pings"] == 5 and found.facts["lost"] == 0
    times = found.facts["round_trip_ms"]
    assert isinstance(times, dict)
    assert 0 < times["min"] <= times["median"] <= times["max"]
    assert totals["datagrams_received"]["ping"] == 6
    assert totals["datagrams_received"]["bye"] >= 2


def test_a_cloud_that_continues_elsewhere_refuses_and_says_why(key: HandshakeKey) -> None:
    port = free_port()
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        found = cloud(Endpoint("127.0.0.1", port), key, OTHER, 5)
        assert has_cloud(Endpoint("127.0.0.1", port), key, OTHER)
    assert found.state is State.BROKEN
    assert "refuses this edge" in found.text and "--split pool1_pool" in found.text


def test_words_of_a_peer_cannot_move_the_cursor(key: HandshakeKey) -> None:
    with fake_cloud(lambda hello: wire.Refuse("full", "no\x1b[2J\nroom")) as port:
        found = cloud(Endpoint("127.0.0.1", port), key, CUT, 1)
    assert found.text.endswith("refuses this edge: no [2J room")


def test_a_cloud_that_opens_a_session_but_answers_no_ping_is_broken(
    key: HandshakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_cloud(lambda hello: wire.Welcome(500)) as port:
        found = cloud(Endpoint("127.0.0.1", port), key, CUT, 1)
    assert found.state is State.BROKEN
    assert "answered none of 1 pings" in found.text and found.facts["lost"] == 1


def test_without_the_key_the_doctor_gets_no_reply_and_says_what_that_may_mean() -> None:
    stranger = HandshakeKey(Key(b"s" * 32))
    with fake_cloud(lambda hello: pytest.fail("it does not know this key")) as port:
        called = visit(socket.AF_INET, ("127.0.0.1", port), stranger, CUT, 5, patience_s=0.1)
    assert called == Visit()
    found = judge(WHERE, stranger, called)
    assert found.state is State.BROKEN
    assert "no answer from cloud.example:9000" in found.text
    for words in ("gradfec-cloud", stranger.id.hex(), "strangers get no reply", "firewalls"):
        assert words in found.remedy
    assert "--insecure" in judge(WHERE, HandshakeKey(INSECURE_KEY), called).remedy


def test_if_nothing_listens_the_kernel_reports_it(key: HandshakeKey) -> None:
    found = cloud(Endpoint("127.0.0.1", free_port()), key, CUT, 5)
    assert found.state is State.BROKEN
    assert "nothing listens there" in found.text and "gradfec-cloud --listen" in found.remedy


def test_a_name_that_does_not_resolve_is_named(key: HandshakeKey) -> None:
    found = cloud(Endpoint("no-such-host.invalid", 9000), key, CUT, 5)
    assert found.state is State.BROKEN
    assert "no-such-host.invalid" in found.text and "check the host name" in found.text


def test_a_network_that_cannot_be_reached_is_named(key: HandshakeKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object) -> Visit:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(reach.Caller, "call", unreachable)
    found = cloud(Endpoint("127.0.0.1", 9), key, CUT, 5)
    assert found.state is State.BROKEN and "Network is unreachable" in found.text


def test_lost_pings_are_a_warning_with_the_share_and_what_helps(key: HandshakeKey) -> None:
    found = judge(WHERE, key, Visit(entered=True, pings=20, round_trips_s=[0.01, 0.04, 0.02]))
    assert found.state is State.WARNING
    assert "10.0 / 20.0 / 40.0 ms" in found.text and "17 of 20 pings (85.0 %) lost" in found.text
    assert found.remedy == "--protect auto, the edge's default, adapts to that"  # no fixed plan repairs it
    assert found.facts == {"pings": 20, "lost": 17, "round_trip_ms": {"min": 10.0, "median": 20.0, "max": 40.0}}


@pytest.mark.parametrize(("lost", "option"), [(1, "--protect FEC_10_90"), (6, "--protect FEC_40_60")])
def test_the_remedy_for_lost_pings_is_the_option_that_repairs_as_much(
    lost: int, option: str, key: HandshakeKey
) -> None:
    found = judge(WHERE, key, Visit(entered=True, pings=20, round_trips_s=(20 - lost) * [0.01]))
    auto = "--protect auto, the edge's default, adapts to that"
    assert found.remedy == f"{auto}; of fixed plans, {option} repairs as much"


def test_a_ping_that_is_lost_on_the_way_is_counted(key: HandshakeKey, tmp_path: Path) -> None:
    """Of six datagrams up, a trace loses the third: hello, ping, (ping), ping, ..."""
    from gradfec_cli.daemons import daemon

    up, port = free_port(), free_port()
    (tmp_path / "trace").write_text("0010" + 100 * "0")
    options = ["--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{up}", "--trace", tmp_path / "trace"]
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{up}"),
        daemon("gradfec-netem", *options, ready="listening on"),
    ):
        called = visit(socket.AF_INET, ("127.0.0.1", port), key, CUT, 4)
    assert called.pings == 4
    assert len(called.round_trips_s) == 3
