"""The metrics: names, labels and kinds as Prometheus reads them, from one snapshot a scrape."""

from __future__ import annotations

import dataclasses
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gradfec_cloud.metrics import Snapshot, serve_metrics
from gradfec_common.console import Endpoint
from gradfec_common.errors import GradfecError
from gradfec_lab.daemons import free_port

SNAPSHOT = Snapshot(
    datagrams={"collected": 2048, "forged": 1},
    kernel_drops=3,
    tensors={"opened": 5, "complete": 4},
    packets={"sent": 8192, "lost": 7},
    answer_seconds=1.5,
    datagrams_sent=11,
    send_failures=2,
    sessions=1,
    open_tensors=6,
    held_bytes=800_000,
    unacknowledged=9,
    limits={"credit": 4},
    insecure=False,
)


def scrape(port: int) -> dict[str, tuple[str, dict[str, float]]]:
    """Return each family's type, and its values by label value ("" where there is none)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        family.name: (family.type, {"".join(s.labels.values()): s.value for s in family.samples}) for family in families
    }


def test_a_scrape_shows_each_number_of_the_snapshot_once() -> None:
    port = free_port()
    server = serve_metrics(Endpoint("127.0.0.1", port), lambda: SNAPSHOT)
    try:
        assert scrape(port) == {
            "gradfec_datagrams_received": ("counter", {"collected": 2048, "forged": 1}),
            "gradfec_datagrams_dropped_by_kernel": ("counter", {"": 3}),
            "gradfec_datagrams_sent": ("counter", {"": 11}),
            "gradfec_datagrams_send_failures": ("counter", {"": 2}),
            "gradfec_tensors": ("counter", {"opened": 5, "complete": 4}),
            "gradfec_packets": ("counter", {"sent": 8192, "lost": 7}),
            "gradfec_answer_seconds": ("counter", {"": 1.5}),
            "gradfec_sessions": ("gauge", {"": 1}),
            "gradfec_open_tensors": ("gauge", {"": 6}),
            "gradfec_held_bytes": ("gauge", {"": 800_000}),
            "gradfec_unacknowledged_answers": ("gauge", {"": 9}),
            "gradfec_limits_reached": ("counter", {"credit": 4}),
            "gradfec_insecure": ("gauge", {"": 0}),
        }
    finally:
        server.shutdown()
        server.server_close()


def test_each_scrape_takes_one_new_snapshot() -> None:
    port = free_port()
    taken: list[int] = []

    def snapshot() -> Snapshot:
        taken.append(len(taken))
        return dataclasses.replace(SNAPSHOT, sessions=len(taken))

    server = serve_metrics(Endpoint("", port), snapshot)
    try:
        before = len(taken)
        first, second = (scrape(port)["gradfec_sessions"][1][""] for _ in range(2))
        assert (first, second) == (before + 1, before + 2)
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_in_use_is_an_error_with_advice() -> None:
    port = free_port()
    server = serve_metrics(Endpoint("127.0.0.1", port), lambda: SNAPSHOT)
    try:
        with pytest.raises(
            GradfecError, match=rf"cannot serve metrics on 127\.0\.0\.1:{port}: .*choose another --metrics"
        ):
            serve_metrics(Endpoint("127.0.0.1", port), lambda: SNAPSHOT)
    finally:
        server.shutdown()
        server.server_close()


def test_a_daemon_that_does_not_answer_makes_the_scrape_fail_not_hang_or_lie() -> None:
    def busy() -> Snapshot:
        raise TimeoutError

    port = free_port()
    server = serve_metrics(Endpoint("127.0.0.1", port), busy)
    try:
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            scrape(port)
    finally:
        server.shutdown()
        server.server_close()
