"""docker-compose.yml and deploy/Dockerfile, as far as they can be checked without a Docker engine."""

import copy
import fnmatch
import importlib
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PROFILES = ["--profile", "monitoring", "--profile", "cluster"]
PATIENCE_S = 60  # how long a slow machine may take; no test waits that long on any other


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
            [*command, "--env-file", str(no_settings), "-f", str(COMPOSE_FILE), *PROFILES, "config"],
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


COMPOSE = [command for command in ("docker compose", "docker-compose") if works(*command.split())]


@pytest.fixture(scope="module", params=["PyYAML", *(COMPOSE or ["docker-compose"])])
def services(request, tmp_path_factory):
    """A function from settings to the services, in the form that all of these agree on."""
    if request.param == "PyYAML":
        read = read_by_pyyaml
    elif COMPOSE:
        no_settings = tmp_path_factory.mktemp("compose") / "empty.env"  # and not the .env of whoever runs this
        no_settings.touch()
        read = read_by(request.param.split(), no_settings)
    else:
        pytest.skip("neither docker compose nor docker-compose is installed")
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
        "read_only_volumes": {path for path, only in map(rights, service.get("volumes", [])) if only},
        "networks": set(networks),
        "depends_on": set(service.get("depends_on") or []),
    }


def rights(volume):
    """Return where a volume is mounted, and whether it may only be read there."""
    if isinstance(volume, dict):
        return volume["target"], volume.get("read_only", False)
    return volume.split(":")[1], volume.endswith(":ro")


def option(service, name):
    return service["command"][service["command"].index(name) + 1]


OURS = {"cloud", "edge", "link"}  # built here, and always there
CLUSTER = {"head", "worker-1", "worker-2", "gateway"}


def test_by_default_there_are_a_cloud_an_edge_and_their_link_and_no_monitoring(services):
    found = services()
    assert {name for name, one in found.items() if not one.get("profiles")} == OURS
    assert {name: one["profiles"] for name, one in found.items() if name not in OURS} == {
        **{name: ["monitoring"] for name in ("prometheus", "grafana")},
        **{name: ["cluster"] for name in CLUSTER},
    }


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
        "prometheus": [],
        "grafana": [],
        **{name: [] for name in CLUSTER},
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
        **dict.fromkeys(("prometheus", "grafana", *CLUSTER), "unless-stopped"),
    }
    for name, service in found.items():
        assert service["init"] is True
        assert ("HEALTHCHECK " in stage(name)) if name in OURS else service["healthcheck"]["test"]
        assert service["logging"] == {"driver": "local"}, "which rotates"
    assert "cloud" in found["link"]["depends_on"]
    assert found["edge"]["depends_on"] == {"cloud", "link"}


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


def test_the_cloud_makes_a_key_that_the_edge_can_read_and_the_link_never_sees(services):
    found = services()
    path = Path(re.search(r"^ENV GRADFEC_KEY_FILE=(\S+)$", stage("runtime"), re.MULTILINE)[1])
    assert found["cloud"]["volumes"][str(path.parent)] == found["edge"]["volumes"][str(path.parent)] == "key"
    assert str(path.parent) not in found["link"]["volumes"]
    assert [str(path.parent) in found[name]["read_only_volumes"] for name in ("cloud", "edge")] == [False, True]
    assert re.search(rf"install -d -m 700 -o gradfec -g gradfec {path.parent}\n", stage("runtime"))
    for name in OURS:
        given = str(found[name].get("environment")) + str(found[name]["command"])
        assert not re.search("GRADFEC_KEY|--key|--insecure|gradfec1-", given), "one place says where the key is"


def test_the_commands_are_ones_that_the_daemons_take(services):
    for name, daemon in (("cloud", "cloud"), ("gateway", "cloud"), ("edge", "edge")):
        command = services()[name]["command"]
        known = CliRunner().invoke(importlib.import_module(f"gradfec_{daemon}.cli").main, ["--help"]).stdout
        for word in command:
            assert not word.startswith("--") or re.search(rf"^  {word}\b", known, re.MULTILINE), word


def test_only_the_gateway_stands_between_the_cluster_and_the_edges_and_nobody_reaches_a_worker(services):
    found = services(GRADFEC_CLOUD="gateway:9000")
    for name in CLUSTER - {"gateway"}:
        assert found[name]["networks"] == {"cluster"}
        assert not found[name].get("ports")
    assert found["gateway"]["networks"] == {"cluster"} | found["cloud"]["networks"]
    assert read_by_pyyaml({})["networks"]["cluster"] == {"internal": True}
    host, port = found["link"]["environment"]["GRADFEC_CLOUD"].split(":")
    assert option(found[host], "--listen") == port
    address = found["gateway"]["environment"]["GRADFEC_RAY"]
    assert address == f"head:{option(found['head'], '--port')}"
    assert all(option(found[name], "--address") == address for name in ("worker-1", "worker-2"))


def test_cloud_and_gateway_share_a_key_that_only_the_cloud_makes(services):
    found = services()
    path = "/key"
    assert found["gateway"]["volumes"][path] == found["cloud"]["volumes"][path]
    assert path in found["gateway"]["read_only_volumes"]
    assert "cloud" in found["gateway"]["depends_on"]


def test_prometheus_asks_the_daemons_directly_where_they_answer(services):
    found = services()
    asked = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {target for job in asked for static in job["static_configs"] for target in static["targets"]}
    assert targets == {"cloud:9100", "edge:9100"}
    assert option(found["cloud"], "--metrics") == "0.0.0.0:9100"
    assert '"--metrics", "0.0.0.0:9100"' in stage("edge")
    near, far = found["edge"]["networks"], found["cloud"]["networks"]
    assert near | far < found["prometheus"]["networks"]
    assert not found["grafana"]["networks"] & (near | far)
    assert found["grafana"]["networks"] < found["prometheus"]["networks"]


def test_the_files_that_the_monitoring_reads_exist(services):
    for name in ("prometheus", "grafana"):
        mounted = services()[name]["volumes"]
        files = [source for source in mounted.values() if "deploy/" in source]
        assert files
        for source in files:
            assert (ROOT / source).exists(), source
            assert {target for target, one in mounted.items() if one == source} <= services()[name]["read_only_volumes"]
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/gradfec.yml").read_text(encoding="utf-8"))
    assert provider["providers"][0]["options"]["path"] in services()["grafana"]["volumes"]


def test_every_port_is_for_this_machine_alone():
    for service in read_by_pyyaml({})["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_the_cloud_can_run_tensorflow_instead_and_the_edge_never_does(services):
    for settings, runtime in (({}, "litert"), ({"GRADFEC_RUNTIME": "tensorflow"}, "tensorflow")):
        found = services(**settings)
        assert found["cloud"]["build"]["args"] == {"RUNTIME": runtime}
        assert "args" not in found["edge"]["build"]


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


def test_every_service_is_built_from_a_stage_that_exists_or_is_an_image_of_a_pinned_version():
    stages = {words[-1] for words in instructions("FROM")}
    for name, service in read_by_pyyaml({})["services"].items():
        if name not in OURS | CLUSTER:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
            continue
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


def test_installers_and_compilers_stay_out_of_the_images():
    for name in ("cloud", "cluster", "edge", "link"):
        text = stage(name)
        assert not re.search(r"\b(gcc|npm|pip|curl)\b", text), name
        (venv,) = re.findall(r"COPY --from=(\S+) /opt/venv", text)
        assert "pip uninstall --yes pip setuptools" in stage(venv)


def test_only_the_link_runs_as_root():
    assert "USER gradfec\n" in stage("cloud")
    assert "USER gradfec\n" in stage("cluster")
    assert "USER gradfec\n" in stage("edge")
    assert "USER" not in stage("link")


def test_the_links_image_has_the_packages_that_the_injector_imports():
    code = (
        "import sys, importlib.metadata as metadata, gradfec_cli.netem, gradfec_cli.relay, gradfec_cli.udp, uvloop;"
        "owners = metadata.packages_distributions();"
        "print(*{owner for module in sys.modules for owner in owners.get(module.split('.')[0], [])})"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    required = {re.match(r"[\w-]+", line)[0] for line in importlib.metadata.requires("gradfec")}
    installed = re.search(r"pip install -c constraints.txt (.+)", stage("link-app"))[1].split()
    assert {"click", "numpy"} <= required & set(imported) <= set(installed)


def test_the_stage_that_fetches_the_weights_has_all_that_this_takes(tmp_path):
    stage = re.search(r"^FROM \S+ AS weights$(.*?)^FROM ", DOCKERFILE.read_text(), re.M | re.S)[1]
    for line in re.findall(r"^COPY (.*)$", stage.replace("\\\n", " "), re.M):
        *sources, target = line.split()
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, tmp_path / target)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / target)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'common'}:{tmp_path / 'cli'}"}
    command = [sys.executable, "-c", "from gradfec_cli.cli import main; main()", "weights", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--front-end" in done.stdout
