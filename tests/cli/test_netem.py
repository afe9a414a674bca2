"""The loss injector: its command line, and the real process on loopback."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from gradfec_cli import netem
from gradfec_cli.daemons import free_port
from gradfec_cli.quantities import percentage
from gradfec_host.listen import dropped_by_kernel

NETEM = [sys.executable, "-m", "gradfec_cli.netem"]
PATIENCE_S = 60  # how long a slow machine may take; no test waits that long on any other

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs add_reader and signals")


def udp_socket(port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    sock.settimeout(PATIENCE_S)
    return sock


def port_of(sock):
    return sock.getsockname()[1]


class Netem:
    """A running gradfec-netem, its totals and its clients."""

    def __init__(self, *options, to, command=NETEM):
        self.port = free_port()
        ends = ["--listen", str(self.port), "--to", f"127.0.0.1:{to}"]
        self.process = subprocess.Popen(
            [*command, *ends, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = []
        while not (self.said and self.said[-1].startswith("listening on")):
            self.said.append(self.process.stderr.readline())
            assert self.said[-1], self.said

    def client(self):
        sock = udp_socket()
        sock.connect(("127.0.0.1", self.port))
        return sock

    def totals_once(self, holds):
        """Read JSON lines until one for which `holds` is true."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            totals = json.loads(self.process.stdout.readline())
            if holds(totals):
                return totals
        raise AssertionError("the totals never came to that")

    def stop(self, sig=signal.SIGTERM):
        """End it; the last line of stdout."""
        self.process.send_signal(sig)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0
        return out.splitlines()[-1]


@contextlib.contextmanager
def running(*options, to, command=NETEM):
    relay = Netem(*options, to=to, command=command)
    try:
        yield relay
    finally:
        relay.process.kill()
        relay.process.communicate()


def unaccounted(totals):
    dropped = sum(count for name, count in totals.items() if name.startswith("dropped_"))
    return totals["received"] + totals["duplicated"] - totals["delivered"] - totals["in_flight"] - dropped


def is_silent(sock):
    return not select.select([sock], [], [], 0)[0]


# --- relaying ---


def test_datagrams_of_any_size_pass_unchanged_both_ways():
    with udp_socket() as server, running(to=port_of(server)) as relay, relay.client() as client:
        for payload in (b"", b"one", os.urandom(1200), os.urandom(65_000)):
            client.send(payload)
            received, peer = server.recvfrom(65_536)
            assert received == payload
            server.sendto(payload[::-1], peer)
            assert client.recv(65_536) == payload[::-1]


def test_the_server_sees_each_client_as_a_peer_of_its_own_and_replies_find_the_right_one():
    with (
        udp_socket() as server,
        running(to=port_of(server)) as relay,
        relay.client() as first,
        relay.client() as second,
    ):
        peers = {}
        for client, name in ((first, b"first"), (second, b"second"), (first, b"first")):
            client.send(name)
            received, peer = server.recvfrom(100)
            assert peers.setdefault(received, peer) == peer
        assert peers[b"first"] != peers[b"second"]
        server.sendto(b"to second", peers[b"second"])
        server.sendto(b"to first", peers[b"first"])
        assert (first.recv(100), second.recv(100)) == (b"to first", b"to second")


def test_clients_reach_it_by_ipv6_as_well():
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with (
        udp_socket() as server,
        running(to=port_of(server)) as relay,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(PATIENCE_S)
        try:
            client.connect(("::1", relay.port))
        except OSError:
            pytest.skip("no IPv6 loopback")
        client.send(b"six")
        received, peer = server.recvfrom(100)
        server.sendto(b"seven", peer)
        assert (received, client.recv(100)) == (b"six", b"seven")


def test_a_server_that_restarts_on_its_port_gets_the_very_next_datagram():
    server = udp_socket()
    port = port_of(server)
    with running("--json", to=port) as relay, relay.client() as client:
        client.send(b"before")
        assert server.recv(100) == b"before"
        server.close()
        for _ in range(5):  # nobody listens, and the kernel reports it
            client.send(b"meanwhile")
        relay.totals_once(lambda totals: totals["up"]["received"] == 6)
        with udp_socket(port) as server:
            client.send(b"after")
            received, peer = server.recvfrom(100)
            assert received == b"after"
            server.sendto(b"reply", peer)
            assert client.recv(100) == b"reply"
            totals = json.loads(relay.stop())
        assert totals["up"]["refused"] >= 1
        assert totals["up"]["delivered"] == 7


# --- impairments and totals ---


def test_each_way_has_its_own_loss_and_the_totals_account_for_every_datagram():
    options = [
        "--loss",
        "50%",
        "--duplicate",
        "0.3",
        "--corrupt",
        "20%",
        "--back-loss",
        "100%",
        "--seed",
        "3",
        "--json",
    ]
    with udp_socket() as server, running(*options, to=port_of(server)) as relay, relay.client() as client:
        for number in range(200):
            client.send(number.to_bytes(2, "big") * 20)
        totals = relay.totals_once(lambda totals: totals["up"]["received"] == 200)
        assert 60 < totals["up"]["dropped_loss"] < 140
        assert 10 < totals["up"]["duplicated"] < 60
        assert totals["up"]["corrupted"] > 5
        arrived = [server.recvfrom(100) for _ in range(totals["up"]["delivered"])]
        assert is_silent(server)
        for _ in range(20):
            server.sendto(b"reply", arrived[0][1])
        relay.totals_once(lambda totals: totals["back"]["received"] == 20)
        final = json.loads(relay.stop())
        assert is_silent(client)
    assert final["final"] is True
    assert final["back"]["dropped_loss"] == 20
    assert unaccounted(final["up"]) == unaccounted(final["back"]) == 0
    for way in (final["up"], final["back"]):
        assert {"received", "delivered", "dropped_loss", "dropped_queue"} <= way.keys()
        assert {"duplicated", "corrupted", "reordered"} <= way.keys()


def test_what_is_still_delayed_when_it_ends_is_in_flight():
    options = ["--delay", "60000", "--json"]
    with udp_socket() as server, running(*options, to=port_of(server)) as relay, relay.client() as client:
        for _ in range(5):
            client.send(b"late")
        relay.totals_once(lambda totals: totals["up"]["received"] == 5)
        final = json.loads(relay.stop())
    assert final["up"]["in_flight"] == 5
    assert unaccounted(final["up"]) == 0


def test_a_delay_and_a_rate_limit_hold_each_way_back_in_real_time():
    options = ["--delay", "150", "--back-rate", "0.01"]
    with udp_socket() as server, running(*options, to=port_of(server)) as relay, relay.client() as client:
        sent_at = time.monotonic()
        client.send(b"x" * 100)
        _, peer = server.recvfrom(200)
        assert time.monotonic() - sent_at >= 0.149
        replied_at = time.monotonic()
        server.sendto(b"x" * 97, peer)  # (97 + 28) x 8 bit at 10 kbit/s: 100 ms
        client.recv(200)
        assert time.monotonic() - replied_at >= 0.099


def survivors(count, *options):
    with udp_socket() as server, running("--json", *options, to=port_of(server)) as relay, relay.client() as client:
        for number in range(count):
            client.send(number.to_bytes(2, "big"))
        totals = relay.totals_once(lambda totals: totals["up"]["received"] == count)
        found = [int.from_bytes(server.recv(100), "big") for _ in range(totals["up"]["delivered"])]
        relay.stop()
    return found


def test_a_seed_makes_the_losses_repeatable_and_a_record_of_them_replays_exactly(tmp_path):
    record = tmp_path / "losses.txt"
    bursty = ["--loss", "40%", "--burst", "4", "--seed", "9"]
    first = survivors(250, *bursty, "--record", str(record))
    assert 0 < len(first) < 250
    assert survivors(250, *bursty) == first
    assert survivors(250, "--trace", str(record)) == first


def test_a_client_too_many_is_refused_and_counted():
    with (
        udp_socket() as server,
        running("--max-clients", "1", "--json", to=port_of(server)) as relay,
        relay.client() as first,
        relay.client() as second,
    ):
        first.send(b"first")
        assert server.recv(100) == b"first"
        second.send(b"second")
        totals = relay.totals_once(lambda totals: totals["up"]["received"] == 2)
        assert totals["up"]["dropped_clients"] == 1
        assert unaccounted(totals["up"]) == 0
        assert is_silent(server)


def test_a_silent_client_makes_room_for_another():
    impatient = "from gradfec_cli import netem, relay; relay.CLIENT_IDLE_S = 0.1; netem.main()"
    command = [sys.executable, "-c", impatient]
    with (
        udp_socket() as server,
        running("--max-clients", "1", to=port_of(server), command=command) as relay,
        relay.client() as first,
        relay.client() as second,
    ):
        first.send(b"first")
        assert server.recv(100) == b"first"
        deadline = time.monotonic() + PATIENCE_S
        while is_silent(server):
            assert time.monotonic() < deadline
            second.send(b"second")  # dropped while the first has the only place
            time.sleep(0.05)
        assert server.recv(100) == b"second"


@pytest.mark.skipif(sys.platform != "linux", reason="SO_MEMINFO is Linux's")
def test_what_overflows_a_receive_buffer_is_counted_by_the_kernel():
    with udp_socket() as receiver, udp_socket() as sender:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        for _ in range(200):
            sender.sendto(b"x" * 400, receiver.getsockname())
        deadline, read = time.monotonic() + PATIENCE_S, 0
        while read + dropped_by_kernel(receiver) < 200:
            assert time.monotonic() < deadline
            with contextlib.suppress(BlockingIOError):
                receiver.recv(500, socket.MSG_DONTWAIT)
                read += 1
        assert dropped_by_kernel(receiver) == 200 - read > 0


# --- starting and ending ---


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly_with_the_final_totals(sig):
    with udp_socket() as server, running(to=port_of(server)) as relay, relay.client() as client:
        client.send(b"one")
        assert server.recv(100) == b"one"
        assert "total up: received 1, delivered 1; back: received 0, delivered 0" in relay.stop(sig)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_under_the_record_is_named_after_the_final_totals():
    with udp_socket() as server, running("--json", "--record", "/dev/full", to=port_of(server)) as relay:
        relay.process.send_signal(signal.SIGTERM)
        out, said = relay.process.communicate(timeout=PATIENCE_S)
    assert relay.process.returncode == 1
    assert json.loads(out.splitlines()[-1])["final"] is True
    assert said == "error: cannot write the loss record /dev/full: No space left on device\n"


def test_it_says_what_it_does_and_its_seed_before_the_first_datagram():
    with udp_socket() as server, running("--seed", "5", to=port_of(server)) as relay:
        assert relay.said[-1] == f"listening on :{relay.port} -> 127.0.0.1:{port_of(server)}, seed 5\n"


def netem_fails(*arguments):
    done = subprocess.run([*NETEM, *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_in_use_is_one_clear_line():
    with udp_socket() as other:
        port = port_of(other)
        code, said = netem_fails("--listen", f"127.0.0.1:{port}", "--to", "127.0.0.1:9")
        where = f"UDP port {port} of 127.0.0.1"
        assert (code, said) == (
            1,
            f"error: {where} is in use already: stop the other program, or choose another --listen\n",
        )


def test_a_host_that_does_not_resolve_is_named():
    code, said = netem_fails("--listen", str(free_port()), "--to", "no-such-host.invalid:9000")
    assert code == 1
    assert said.startswith("error: cannot reach no-such-host.invalid:9000: ")
    assert said.endswith("; check the host name in --to\n")


def test_a_relay_to_itself_is_refused():
    port = free_port()
    code, said = netem_fails("--listen", str(port), "--to", f"127.0.0.1:{port}")
    assert code == 2
    assert "--to and --listen are the same" in said


# --- options ---

ENDS = ["--listen", "9001", "--to", "127.0.0.1:9000"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--loss", "80%", "--burst", "2"], "the way up: a mean loss of 80 % in bursts of 2 is impossible"),
        (["--back-loss", "0.8", "--back-burst", "2"], "the way back: a mean loss of 80 %"),
        (["--burst", "8"], "--burst has no effect without --loss"),
        (["--back-queue", "8"], "--back-queue has no effect without --back-rate"),
        (["--reorder-by", "8"], "--reorder-by has no effect without --reorder"),
        (["--loss", "20"], "'20' is not a share of the datagrams: write it as 20% or as 0.2"),
        (["--loss", "nan"], "'nan' is not a share"),
        (["--corrupt", "20%%"], "'20%%' is not a share"),
        (["--delay", "-1"], "'-1' is not a number of milliseconds, from 0 to 60000"),
        (["--delay", "soon"], "'soon' is not a number of milliseconds"),
        (["--rate", "0"], "'0' is not a number of Mbit/s, at least 0.001"),
        (["--jitter", "5"], "make the delay at least 5 ms"),
        (["--trace", "missing.txt"], "cannot read the trace missing.txt: No such file"),
        (["--record", "missing/losses.txt"], "cannot write the loss record missing/losses.txt: No such file"),
        (["--record", "a.txt", "--back-record", "./a.txt"], "is given twice"),
        (["--to", "localhost"], "has no port"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(options, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(netem.main, ["--listen", str(free_port()), *ENDS[2:], *options])
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    assert complaint in done.output


def test_a_bad_trace_file_is_refused_with_its_place(tmp_path):
    trace = tmp_path / "losses.txt"
    trace.write_text("0101\n01?0\n")
    done = CliRunner().invoke(netem.main, [*ENDS, "--back-trace", str(trace)])
    assert done.exit_code == 1
    assert done.output == f"error: {trace}, line 2: '?' is neither 0 (delivered) nor 1 (lost)\n"


@pytest.mark.parametrize(
    ("text", "share"), [("20%", 0.2), ("0.2", 0.2), ("100%", 1), ("1", 1), ("0", 0), (" 5 % ", 0.05)]
)
def test_shares_are_percentages_or_fractions(text, share):
    assert percentage(text) == pytest.approx(share)


def test_every_option_sets_its_field_of_the_settings():
    impairments = "--loss 20% --burst 8 --duplicate 1% --corrupt 2% --rate 10 --queue 7"
    timing = "--delay 20 --jitter 5 --reorder 3% --reorder-by 9"
    context = netem.main.make_context("netem", [*ENDS, *impairments.split(), *timing.split(), "--back-loss", "0.5"])
    up, back = (netem.channel_settings(prefix, context.params) for prefix in ("", "back-"))
    assert (up.loss, up.burst, up.duplicate, up.corrupt) == (0.2, 8, 0.01, 0.02)
    assert (up.rate_bps, up.queue_datagrams) == (10e6, 7)
    assert (up.delay_s, up.jitter_s, up.reorder, up.reorder_by_s) == (0.020, 0.005, 0.03, 0.009)
    assert (back.loss, back.burst, back.delay_s) == (0.5, None, 0)
