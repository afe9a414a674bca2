"""deploy/link.sh, with fakes of the commands that it calls; each writes down its calls in order."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gradfec_cli.loss_models import gilbert_elliott_transitions
from gradfec_common.errors import UsageError

LINK = Path(__file__).resolve().parents[2] / "deploy" / "link.sh"
PATIENCE_S = 60  # how long a slow machine may take; no test waits that long on any other

needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")

FAKES = {
    "getent": 'while read -r address; do echo "$address STREAM $2"; done < "$FAKES/addresses"',
    "ip": 'echo "ip $*" >> "$FAKES/calls"; echo "203.0.113.5 dev eth7 src 203.0.113.6 uid 0"',
    "ethtool": 'echo "ethtool $*" >> "$FAKES/calls"; [ "$3" != tx-udp-segmentation ]',
    "tc": 'echo "tc $*" >> "$FAKES/calls"; [ -z "$TC_SAYS" ] || { echo "$TC_SAYS" >&2; exit 2; }',
    "gradfec-netem": """
        trap 'echo "relay stopped" >> "$FAKES/calls"; exit 0' TERM
        echo "relay $*" >> "$FAKES/calls"
        [ -z "$RELAY_DIES" ] || exit 3
        while :; do sleep 0.05; done""",
}
NO_NETEM = "Error: Specified qdisc kind is unknown."


class Link:
    """A running link.sh."""

    def __init__(self, folder, *, addresses=("203.0.113.5",), tc_says="", relay_dies="", **settings):
        for name, body in FAKES.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        self._folder = folder
        self.cloud_is_at(*addresses)
        (folder / "calls").touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADFEC_")}
        environment |= {"PATH": f"{folder}:{environment['PATH']}", "FAKES": str(folder)}
        environment |= {"TC_SAYS": tc_says, "RELAY_DIES": relay_dies}
        self._process = subprocess.Popen(
            ["sh", str(LINK)], env=environment | settings, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def cloud_is_at(self, *addresses):
        new = self._folder / "addresses.new"
        new.write_text("".join(f"{address}\n" for address in addresses), encoding="utf-8")
        new.replace(self._folder / "addresses")

    @property
    def calls(self):
        return (self._folder / "calls").read_text(encoding="utf-8").splitlines()

    def wait_for_call(self, start):
        end = time.monotonic() + PATIENCE_S
        while not any(call.startswith(start) for call in self.calls):
            assert time.monotonic() < end and self._process.poll() is None, self.calls
            time.sleep(0.02)

    def wait_for_word(self):
        return self._process.stderr.readline()

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self):
        """Return what it has said, and its exit code, once nothing that it started holds its standard error."""
        said = self._process.communicate(timeout=PATIENCE_S)[1]
        return said, self._process.returncode

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stderr.close()


@pytest.fixture
def link(tmp_path):
    links = []

    def start(**settings):
        links.append(Link(tmp_path, **settings))
        return links[-1]

    yield start
    for one in links:
        one.kill()


@needs_sh
def test_with_netem_the_kernel_loses_on_the_way_to_the_cloud_and_the_relay_is_clean(link):
    running = link(GRADFEC_LOSS="20%", GRADFEC_BURST="8", GRADFEC_DELAY_MS="40", GRADFEC_JITTER_MS="10")
    running.wait_for_call("relay")
    said, code = running.stop()
    assert running.calls == [
        "ip -o route get 203.0.113.5",
        "tc qdisc replace dev eth7 root netem loss gemodel 3.125000% 12.500000% delay 40.000ms 10.000ms limit 100000",
        "ethtool -K eth7 tso off",
        "ethtool -K eth7 gso off",
        "ethtool -K eth7 tx-udp-segmentation off",
        "relay --listen 9001 --to 203.0.113.5:9000",
        "relay stopped",
        "tc qdisc del dev eth7 root",
    ]
    assert code == 0
    assert "netem on eth7 loses 20% of the datagrams to the cloud in bursts of 8, delays them by 40 +- 10 ms" in said
    assert "warning: cannot switch off tx-udp-segmentation on eth7" in said
    assert "injector" not in said


@needs_sh
def test_without_netem_the_injector_loses_the_same_and_one_line_says_so(link):
    running = link(
        tc_says=NO_NETEM, GRADFEC_LOSS="0.4", GRADFEC_BURST="8", GRADFEC_DELAY_MS="40", GRADFEC_LISTEN="7001"
    )
    running.wait_for_call("relay")
    said, code = running.stop()
    assert running.calls[-2:] == [
        "relay --listen 7001 --to 203.0.113.5:9000 --loss 0.4 --delay 40 --jitter 0 --burst 8",
        "relay stopped",
    ]
    assert not any(call.startswith(("ethtool", "tc qdisc del")) for call in running.calls)
    assert said.count("this kernel has no netem, so the injector (gradfec-netem) loses 0.4 of the datagrams") == 1
    assert code == 0


@needs_sh
def test_another_refusal_of_tc_is_shown(link):
    running = link(tc_says="RTNETLINK answers: Operation not permitted")
    running.wait_for_call("relay")
    said, _ = running.stop()
    assert "no netem here (tc: RTNETLINK answers: Operation not permitted), so the injector" in said
    assert running.calls[-2] == "relay --listen 9001 --to 203.0.113.5:9000 --loss 20% --delay 0 --jitter 0"


@needs_sh
@pytest.mark.parametrize(
    ("loss", "netem"), [("20%", "loss 20.000000%"), ("0.5", "loss 50.000000%"), ("0", "loss 0.000000%")]
)
def test_without_bursts_losses_are_independent(link, loss, netem):
    running = link(GRADFEC_LOSS=loss)
    running.wait_for_call("relay")
    assert running.calls[1] == f"tc qdisc replace dev eth7 root netem {netem} limit 100000"


@needs_sh
@pytest.mark.parametrize(("loss", "burst"), [(0.2, 8), (0.4, 1.5), (0.8, 4), (0.5, 1), (0.003, 20)])
def test_bursts_are_those_of_the_injector(link, loss, burst):
    to_bad, to_good = gilbert_elliott_transitions(loss, burst)
    running = link(GRADFEC_LOSS=str(loss), GRADFEC_BURST=str(burst))
    running.wait_for_call("relay")
    p, r = re.search(r"loss gemodel ([\d.]+)% ([\d.]+)% limit", running.calls[1]).groups()
    assert float(p) == pytest.approx(100 * to_bad, abs=1e-5)
    assert float(r) == pytest.approx(100 * to_good, abs=1e-5)


REFUSALS = {
    "a mean loss of 80% in bursts of 2 is impossible": {"GRADFEC_LOSS": "80%", "GRADFEC_BURST": "2"},
    "at most 66.67%; make GRADFEC_BURST at least 4.00": {"GRADFEC_LOSS": "80%", "GRADFEC_BURST": "2"},
    "a run of losses has at least 1 datagram": {"GRADFEC_BURST": "0.5"},
    "GRADFEC_BURST=many is not a number": {"GRADFEC_BURST": "many"},
    "at 100% loss a burst never ends": {"GRADFEC_LOSS": "100%", "GRADFEC_BURST": "8"},
    "GRADFEC_LOSS=20 is not a share of the datagrams: write it as 20% or as 0.2": {"GRADFEC_LOSS": "20"},
    "GRADFEC_LOSS=-1% is not a share": {"GRADFEC_LOSS": "-1%"},
    "GRADFEC_LOSS=20% # a lot is not a share": {"GRADFEC_LOSS": "20% # a lot"},
    "GRADFEC_DELAY_MS=40ms is not a number": {"GRADFEC_DELAY_MS": "40ms"},
    "GRADFEC_DELAY_MS=60001 is more than 60000 ms": {"GRADFEC_DELAY_MS": "60001"},
    "would deliver datagrams before they were sent": {"GRADFEC_DELAY_MS": "5", "GRADFEC_JITTER_MS": "6"},
}


@needs_sh
@pytest.mark.parametrize("reason", REFUSALS)
def test_parameters_that_no_link_can_have_are_refused_in_one_line(link, reason):
    running = link(**REFUSALS[reason])
    said, code = running.end()
    assert code == 2
    assert reason in said
    assert said.startswith("link: error: ") and said.count("\n") == 1
    assert running.calls == []


def test_the_injector_refuses_the_same_bursts():
    for loss, burst in ((0.8, 2), (0.2, 0.5), (1, 8)):
        with pytest.raises(UsageError):
            gilbert_elliott_transitions(loss, burst)


@needs_sh
def test_when_the_relay_dies_the_link_cleans_up_and_ends(link):
    said, code = (running := link(relay_dies="yes")).end()
    assert code == 1
    assert "error: the relay has ended (exit code 3)" in said
    assert running.calls[-1] == "tc qdisc del dev eth7 root"


@needs_sh
def test_a_cloud_that_moves_is_followed(link):
    running = link()
    running.wait_for_call("relay --listen 9001 --to 203.0.113.5:9000")
    running.cloud_is_at()  # it is being started anew
    running.cloud_is_at("203.0.113.9")
    running.wait_for_call("relay --listen 9001 --to 203.0.113.9:9000")
    said, _ = running.stop()
    assert "link: cloud is no longer at 203.0.113.5" in said
    kinds = [" ".join(call.split()[:3]) for call in running.calls if call.startswith(("tc", "relay"))]
    once = ["tc qdisc replace", "relay --listen 9001", "relay stopped", "tc qdisc del"]
    assert kinds == 2 * once


@needs_sh
def test_the_link_waits_for_the_clouds_name(link):
    running = link(addresses=(), GRADFEC_CLOUD="cloud.example:7000")
    assert running.wait_for_word() == "link: waiting for a host named cloud.example\n"
    running.cloud_is_at("203.0.113.7")
    running.wait_for_call("relay --listen 9001 --to 203.0.113.7:7000")


@needs_sh
def test_a_link_that_still_waits_can_be_stopped_and_has_nothing_to_remove(link):
    running = link(addresses=())
    running.wait_for_word()
    assert running.stop() == ("", 0)
    assert running.calls == []


@needs_sh
def test_the_script_is_plain_posix_shell():
    subprocess.run(["sh", "-n", str(LINK)], check=True)
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", str(LINK)], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout
