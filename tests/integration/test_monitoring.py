"""Real daemons under monitoring: health checks, Prometheus's own tool, and Prometheus itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.deploy.test_monitoring import DEPLOY, OF_DASHBOARD

from gradfec_cli.daemons import READY_S, Daemon, free_port

from .endings import untimed
from .patient import patient
from .stubbed import stubbed

HOW = "it is in Debian's package prometheus"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=f"promtool is not installed: {HOW}")
prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason=f"prometheus is not installed: {HOW}")


class Asked(NamedTuple):
    """What `gradfec health` said."""

    code: int
    line: str


def health(port: int, *options: str) -> Asked:
    command = [sys.executable, "-c", "from gradfec_cli.cli import main; main()", "health", str(port), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Asked(done.returncode, (done.stdout + done.stderr).strip())


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


def fetched(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=READY_S) as answer:
        text: str = answer.read().decode()
        return text


@contextlib.contextmanager
def pair(photographs: Path) -> Iterator[tuple[Daemon, int, Daemon, int]]:
    """A cloud and an edge with toy models, each with the port of its metrics; the edge sends for ever."""
    port, of_cloud, of_edge = free_port(), free_port(), free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--fps", "20"]
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--metrics", of_cloud) as cloud,
        stubbed("gradfec-edge", *where, "--metrics", of_edge, ready="connected to") as edge,
    ):
        yield cloud, of_cloud, edge, of_edge


def test_health_checks_say_what_is_not_ready(photographs: Path) -> None:
    with pair(photographs) as (cloud, of_cloud, _, of_edge):
        assert health(of_cloud) == (0, "alive")
        assert health(of_cloud, "--ready") == (0, "ready")
        until(lambda: health(of_edge, "--ready") == (0, "ready"))
        os.kill(cloud.process.pid, signal.SIGKILL)
        cloud.process.wait()
        until(lambda: health(of_edge, "--ready").code == 1)
        assert health(of_edge) == (0, "alive")
        until(lambda: "nothing listens there" in health(of_edge, "--ready").line)
        line = health(of_edge, "--ready").line
        assert re.match(r"not ready: cannot reach 127\.0\.0\.1:\d+: nothing listens there; start it there: ", line)
        code, line = health(of_cloud)
        assert (code, line) == (1, f"error: no answer from 127.0.0.1:{of_cloud}: Connection refused")


def test_an_edge_whose_metrics_port_is_in_use_says_so_in_one_line(photographs: Path) -> None:
    with pair(photographs) as (_, of_cloud, _, _):
        where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}", "--metrics", of_cloud]
        with stubbed("gradfec-edge", *where) as edge:
            assert edge.process.wait(READY_S) == 1
            edge.stop()
    (line,) = [line for line in edge.said if "error" in line]
    assert untimed(line).startswith(f"error: cannot serve metrics on 127.0.0.1:{of_cloud}: ")
    assert line.endswith("choose another --metrics")
    assert not any("Traceback" in line for line in edge.said)


def test_both_ends_count_the_same_packets(photographs: Path) -> None:
    port, of_cloud, of_edge = free_port(), free_port(), free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--protect", "FEC_25_75"]
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--metrics", of_cloud):
        with stubbed("gradfec-edge", *where, "--metrics", of_edge, "--name", "door", ready="connected to") as edge:
            until(lambda: value(fetched(of_edge), "gradfec_edge_frames_total", outcome="complete") >= 5)
            texts = (fetched(of_edge) for _ in range(50))  # a frame may be counted halfway, but not in all
            text = next(text for text in texts if shares(text) == (192.0, 64.0, 64.0))
            of_door = fetched(of_cloud)
            edge.stop()
        until(lambda: value(fetched(of_cloud), "gradfec_cloud_sessions") == 0)
        after = fetched(of_cloud)
    frames = complete(text)
    delivered = value(text, "gradfec_edge_importance_total", fate="delivered")
    assert delivered + value(text, "gradfec_edge_importance_total", fate="dropped_by_plan") == pytest.approx(frames)
    assert delivered >= 0.75 * frames  # what is kept matters no less than what is dropped
    assert value(after, "gradfec_cloud_packets_total", fate="dropped_by_plan") >= frames * 64
    assert value(of_door, "gradfec_cloud_edge_tensors_total", edge="door", outcome="complete") >= frames
    assert "gradfec_cloud_edge_packets_total{" not in after  # the edge has gone


def complete(text: str) -> float:
    """Return how many frames an edge has had complete."""
    return value(text, "gradfec_edge_frames_total", outcome="complete")


def shares(text: str) -> tuple[float, float, float]:
    """Return how many packets of a frame have arrived, were dropped, and were sent as parity."""
    kinds = [value(text, "gradfec_edge_packets_total", fate=fate) for fate in ("arrived", "dropped_by_plan")]
    of_all, dropped, parity = (*kinds, value(text, "gradfec_edge_parity_datagrams_total"))
    return of_all / complete(text), dropped / complete(text), parity / complete(text)


def value(text: str, name: str, **labels: str) -> float:
    """Return the one sample of that name that has those labels, 0 where there is none."""
    found = [
        float(sample)
        for braces, sample in re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        if all(f'{label}="{wanted}"' in braces for label, wanted in labels.items())
    ]
    assert len(found) <= 1
    return found[0] if found else 0.0


def test_what_an_edge_knows_of_its_link_is_exported_while_the_link_decides_and_is_there(photographs: Path) -> None:
    port, of_edge = free_port(), free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--fps", "20", "--metrics", of_edge]

    def known() -> set[str]:
        return set(re.findall(r"^gradfec_edge_(link_\w+(?<!_total)|budget_\w+|expected_\w+){", fetched(of_edge), re.M))

    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}") as cloud:
        with stubbed("gradfec-edge", *where, ready="connected to") as edge:
            until(lambda: value(fetched(of_edge), "gradfec_edge_frames_total", outcome="complete") > 0)
            assert known() == set()
            edge.stop()
        with stubbed("gradfec-edge", *where, "--protect", "auto", ready="connected to"):
            of_link = {"link_loss_ratio", "link_burst_datagrams", "link_round_trip_seconds", "link_queueing_seconds"}
            until(lambda: of_link | {"budget_bytes_per_second"} <= known())
            os.kill(cloud.process.pid, signal.SIGKILL)
            cloud.process.wait()
            until(lambda: known() == set())


@promtool
def test_what_is_exported_keeps_to_prometheus_conventions(photographs: Path) -> None:
    with pair(photographs) as (_, of_cloud, _, of_edge):
        until(lambda: value(fetched(of_edge), "gradfec_edge_frames_total", outcome="complete") > 0)
        for port in (of_cloud, of_edge):
            command = ["promtool", "check", "metrics", "--extended"]
            done = subprocess.run(command, input=fetched(port), capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")


@contextlib.contextmanager
def running_prometheus(folder: Path, targets: dict[str, int]) -> Iterator[int]:
    """A Prometheus with deploy/'s configuration, but for the addresses and a shorter interval; yield its port."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "alerts.yml", folder)
    port, log = free_port(), folder / "log"
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data"}
    options["web.listen-address"] = f"127.0.0.1:{port}"  # type: ignore[assignment]
    with log.open("w") as file:
        command = ["prometheus", *(f"--{name}={setting}" for name, setting in options.items())]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            yield port
        except BaseException:
            print(log.read_text())
            raise
        finally:
            process.kill()
            process.wait()


def ask(port: int, expr: str) -> list[dict[str, Any]]:
    """Return the samples of an instant query; none while Prometheus is not up."""
    try:
        answer = json.loads(fetched(port, f"/api/v1/query?{urllib.parse.urlencode({'query': expr})}"))
    except OSError as error:
        assert not hasattr(error, "read") or b"parse error" not in error.read(), expr
        return []
    assert answer["status"] == "success"
    samples: list[dict[str, Any]] = answer["data"]["result"]
    return samples


@pytest.mark.daemons
@prometheus
def test_prometheus_scrapes_both_daemons_and_answers_the_dashboards_queries(photographs: Path, tmp_path: Path) -> None:
    listen, of_cloud, of_edge = free_port(), free_port(), free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{listen}", "--loop", "--fps", "4", "--name", "door"]
    with (
        patient("gradfec-cloud", "--listen", f"127.0.0.1:{listen}", "--metrics", of_cloud, ready="listening on"),
        patient("gradfec-edge", *where, "--metrics", of_edge, ready="connected to"),
        running_prometheus(tmp_path, {"gradfec-cloud": of_cloud, "gradfec-edge": of_edge}) as port,
    ):
        up = ["gradfec-cloud", "gradfec-edge"]
        until(lambda: sorted(sample["metric"]["job"] for sample in ask(port, "up == 1")) == up)
        until(lambda: bool(ask(port, 'increase(gradfec_edge_frames_total{outcome="complete"}[1m]) > 0')))
        until(lambda: bool(ask(port, 'increase(gradfec_cloud_packets_total{fate="arrived"}[1m]) > 0')))
        for query in OF_DASHBOARD:
            expr = re.sub(r"\$(camera|edge)\b", ".*", query.expr).replace("$__rate_interval", "1m")
            if not expr.endswith("> 0"):  # those show only what is wrong
                assert ask(port, expr), f"{query.where}: no data for {expr}"
        groups = json.loads(fetched(port, "/api/v1/rules"))["data"]["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        firing = ask(port, 'ALERTS{alertstate="firing"}')
        assert firing == []
