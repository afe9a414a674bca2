"""docker-compose.yml, deploy/Dockerfile and deploy/link.sh, as far as they can be checked without a Docker engine."""

import contextlib
import copy
import fnmatch
import importlib
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from gradfec_common.errors import UsageError
from gradfec_lab.loss_models import gilbert_elliott_transitions

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LINK = ROOT / "deploy" / "link.sh"
PATIENCE_S = 60  # how long a slow machine may take; no test waits that long on any other

needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")


# docker-compose.yml, as PyYAML reads it everywhere, and as each Compose on this machine does.


def interpolate(text, settings):
    def value(match):
        name, separator, default = match.groups()
        given = settings.get(name)
        return default if given is None or (separator == ":-" and not given) else given

    return re.sub(r"\$\{([A-Z_]+)(:?-)([^}]*)\}", value, text)


def read_by_pyyaml(settings):
    text = interpolate(COMPOSE_FILE.read_text(encoding="utf-8"), settings)
    assert "$" not in text, "an interpolation that this test does not know"
    return yaml.safe_load(text)


def read_by(command, no_settings):
    def read(settings):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRADFEC_")}
        output = subprocess.run(
            [*command, "--env-file", str(no_settings), "-f", str(COMPOSE_FILE), "config"],
            capture_output=True, text=True, timeout=PATIENCE_S, env=inherited | settings, check=False,
        )  # fmt: skip
        assert output.returncode == 0, output.stderr
        return yaml.safe_load(output.stdout)

    return read


def works(*command):
    try:
        return (
            subprocess.run([*command, "version"], capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
        )
    except OSError:
        return False


@pytest.fixture(scope="module", params=["PyYAML", "docker compose", "docker-compose"])
def services(request, tmp_path_factory):
    """A function from settings to the services, in the form that all of these agree on."""
    if request.param == "PyYAML":
        read = read_by_pyyaml
    elif works(*request.param.split()):
        no_settings = tmp_path_factory.mktemp("compose") / "empty.env"  # and not the .env of whoever runs this
        no_settings.touch()
        read = read_by(request.param.split(), no_settings)
    else:
        pytest.skip(f"no {request.param} here")
    known = {}  # each file with its settings is read once

    def services(**settings):
        key = tuple(sorted(settings.items()))
        if key not in known:
            known[key] = {name: normal(one) for name, one in read(settings)["services"].items()}
        return copy.deepcopy(known[key])

    return services


def normal(service):
    def pair(entry, *names):
        if isinstance(entry, dict):
            return tuple(entry.get(name) for name in names)
        return tuple(entry.split(":"))[: len(names)]

    command = service.get("command") or []
    networks = service["networks"]
    return service | {
        "command": shlex.split(command) if isinstance(command, str) else command,
        "devices": [pair(entry, "source", "target") for entry in service.get("devices", [])],
        "volumes": {target: source for source, target in (pair(v, "source", "target") for v in service["volumes"])}
        if "volumes" in service
        else {},
        "networks": set(networks),
        "depends_on": set(service.get("depends_on") or []),
    }


def option(service, name):
    return service["command"][service["command"].index(name) + 1]


def test_there_are_a_cloud_an_edge_and_the_link_between_them(services):
    assert set(services()) == {"cloud", "edge", "link"}


def test_the_link_is_the_only_way_from_the_edge_to_the_cloud(services):
    found = services()
    assert not found["edge"]["networks"] & found["cloud"]["networks"]
    assert found["link"]["networks"] == found["edge"]["networks"] | found["cloud"]["networks"]
    assert option(found["edge"], "--cloud") == f"link:{found['link']['environment']['GRADFEC_LISTEN']}"
    assert found["link"]["environment"]["GRADFEC_CLOUD"] == f"cloud:{option(found['cloud'], '--listen')}"


def test_every_capability_is_dropped_and_only_the_link_may_configure_its_network(services):
    found = services()
    assert {name: service.get("cap_add") or [] for name, service in found.items()} == {
        "cloud": [],
        "edge": [],
        "link": ["NET_ADMIN"],
    }
    for service in found.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert "privileged" not in service
        assert service.get("network_mode") is None


def test_services_are_watched_and_started_again(services):
    found = services()
    assert {name: one["restart"] for name, one in found.items()} == {
        "cloud": "unless-stopped",
        "link": "unless-stopped",
        "edge": "on-failure",
    }
    for service in found.values():
        assert service["init"] is True
        assert service["healthcheck"]["test"]
    assert "cloud" in found["link"]["depends_on"]
    assert "link" in found["edge"]["depends_on"]


def test_by_default_the_link_loses_a_fifth_independently_and_delays_nothing(services):
    environment = services()["link"]["environment"]
    assert environment["GRADFEC_LOSS"] == "20%"
    assert environment["GRADFEC_BURST"] in {"", None}
    assert str(environment["GRADFEC_DELAY_MS"]) == str(environment["GRADFEC_JITTER_MS"]) == "0"


def test_the_links_parameters_come_from_the_environment(services):
    given = {"GRADFEC_LOSS": "35%", "GRADFEC_BURST": "8", "GRADFEC_DELAY_MS": "40", "GRADFEC_JITTER_MS": "10"}
    environment = services(**given)["link"]["environment"]
    assert {name: str(environment[name]) for name in given} == given


def test_by_default_frames_come_from_a_folder(services):
    edge = services()["edge"]
    assert option(edge, "--camera") == "/images"
    assert edge["volumes"]["/images"] == "images"
    assert edge["devices"] == [("/dev/null", "/dev/null")]
    assert "--loop" in edge["command"]


def test_the_folder_can_be_one_of_the_hosts(services):
    source = services(GRADFEC_IMAGES="./photos")["edge"]["volumes"]["/images"]
    assert source in {"./photos", str(ROOT / "photos")}


@pytest.mark.parametrize("camera", ["/dev/video0", "/dev/video2"])
def test_one_setting_takes_frames_from_a_camera_and_lets_the_container_have_it(services, camera):
    edge = services(GRADFEC_CAMERA=camera)["edge"]
    assert option(edge, "--camera") == camera
    assert edge["devices"] == [(camera, camera)]


def test_the_protection_and_further_options_of_the_edge_are_settings(services):
    edge = services(GRADFEC_PROTECT="none", GRADFEC_EDGE_OPTIONS="--camera rtsp://10.0.0.7/stream --fps 5")["edge"]
    assert option(edge, "--protect") == "none"
    assert edge["command"][-4:] == ["--camera", "rtsp://10.0.0.7/stream", "--fps", "5"]
    assert "--loop" not in services(GRADFEC_EDGE_OPTIONS="")["edge"]["command"]


def test_both_daemons_record_results_in_the_same_place(services):
    for settings, source in (({}, "results"), ({"GRADFEC_RESULTS": "/srv/results"}, "/srv/results")):
        found = services(**settings)
        assert found["cloud"]["volumes"]["/results"] == found["edge"]["volumes"]["/results"] == source


def test_the_commands_are_ones_that_the_daemons_take(services):
    for name in ("cloud", "edge"):
        command = services()[name]["command"]
        known = CliRunner().invoke(importlib.import_module(f"gradfec_{name}.cli").main, ["--help"]).stdout
        for word in command:
            assert not word.startswith("--") or re.search(rf"^  {word}\b", known, re.MULTILINE), word


# deploy/Dockerfile


def instructions(name):
    text = DOCKERFILE.read_text(encoding="utf-8")
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [match[1].split() for match in re.finditer(rf"^{name}\s+(.+)$", joined, re.MULTILINE)]


def stage(name):
    text = DOCKERFILE.read_text(encoding="utf-8")
    return next(
        part for part in re.split(r"^(?=FROM )", text, flags=re.MULTILINE) if re.match(rf"FROM .+ AS {name}\n", part)
    )


def test_every_service_is_built_from_a_stage_that_exists():
    stages = {words[-1] for words in instructions("FROM")}
    for service in read_by_pyyaml({})["services"].values():
        build = service["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
        assert build["target"] in stages


def test_what_the_images_copy_exists_and_is_not_ignored():
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    excluded = [rule for rule in rules[1:] if not rule.startswith("!")]
    copies = [words for words in instructions("COPY") if not words[0].startswith("--from=")]
    for source in {source for words in copies for source in words[:-1]}:
        assert (ROOT / source).exists(), source
        assert allowed & {source, *map(str, Path(source).parents)}, source
        assert not any(fnmatch.fnmatch(source, rule.removeprefix("**/")) for rule in excluded), source


def test_only_the_link_runs_as_root():
    assert "USER gradfec\n" in stage("cloud")
    assert "USER gradfec\n" in stage("edge")
    assert "USER" not in stage("link")


def test_the_links_image_has_the_packages_that_the_injector_imports():
    code = (
        "import sys, importlib.metadata as metadata, gradfec_lab.netem, gradfec_lab.relay, gradfec_lab.udp, uvloop;"
        "owners = metadata.packages_distributions();"
        "print(*{owner for module in sys.modules for owner in owners.get(module.split('.')[0], [])})"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    required = {re.match(r"[\w-]+", line)[0] for line in importlib.metadata.requires("gradfec")}
    installed = re.search(r"pip install -c constraints.txt (.+)", stage("injector"))[1].split()
    assert {"click", "numpy"} <= required & set(imported) <= set(installed)


# deploy/link.sh, with fakes of what it calls. Each writes down how it was called, in the order of the calls.

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
def test_without_netem_the_injector_loses_the_same_and_it_is_said_once(link):
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
    "a mean loss of 80% in bursts of 2 is infeasible": {"GRADFEC_LOSS": "80%", "GRADFEC_BURST": "2"},
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
