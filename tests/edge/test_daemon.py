"""The edge daemon while the cloud says nothing. tests/integration tests the rest."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from gradfec_common.ciphers import Cipher
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.session.edge import new_hello
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge import daemon as daemon_module
from gradfec_edge.daemon import Camera, EdgeDaemon, EdgeOptions
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.status import CameraStatus
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

SOON_S = 60.0  # a safety net
KEY = HandshakeKey(Key(bytes(range(32))))
SECURE = f"that it has this edge's key {KEY.id.hex()} (strangers get no answer), "


class Silent:
    """A camera that shows nothing, until something has happened."""

    live, interval, name = True, None, "camera"

    def __init__(self, until: Callable[[], bool]) -> None:
        self.until, self.end = until, time.monotonic() + SOON_S

    @property
    def ended(self) -> bool:
        return self.until() or time.monotonic() > self.end

    def next_frame(self, timeout_s: float) -> None:
        time.sleep(0.001)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("key", "words"),
    [(KEY, SECURE), (HandshakeKey(INSECURE_KEY), "that it runs with --insecure, too, ")],
    ids=["a key", "insecure"],
)
def test_who_points_a_camera_at_a_silent_cloud_is_told_once_what_to_look_for(
    key: HandshakeKey, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon_module, "PATIENCE_S", 0.01)
    caplog.set_level("INFO")

    async def run(cloud: Endpoint) -> None:
        options = EdgeOptions(cloud, new_hello(1, 7, "edge", Cipher.AES_256_GCM), key, 4, 2.0, None)
        camera = Silent(lambda: any("no answer" in line for line in caplog.messages))
        parts = Camera(options, camera, None, None, CameraStatus("edge"), Log("gradfec-edge"))
        metrics = EdgeMetrics(CollectorRegistry(), dict, insecure=key.insecure).camera("edge")
        await EdgeDaemon(parts, metrics).run()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        cloud = Endpoint(*silent.getsockname())
        uvloop.run(run(cloud))
    assert f"looking for {cloud}" in caplog.messages
    told = [line for line in caplog.messages if "no answer" in line]
    assert len(told) == 1
    assert f"no answer from {cloud} for 0 s: check that gradfec-cloud runs there, {words}and that UDP" in told[0]
    assert ("--insecure: anybody" in " ".join(caplog.messages)) == key.insecure
    assert {record.levelname for record in caplog.records if record.event in {"silent", "insecure"}} == {"WARNING"}


def test_who_is_stopped_before_it_has_begun_ends_and_is_shown_as_ended() -> None:
    async def run(cloud: Endpoint) -> EdgeDaemon:
        options = EdgeOptions(cloud, new_hello(1, 7, "edge", Cipher.AES_256_GCM), KEY, 4, 2.0, None)
        parts = Camera(options, Silent(lambda: False), None, None, CameraStatus("edge"), Log("gradfec-edge"))
        edge = EdgeDaemon(parts, EdgeMetrics(CollectorRegistry(), dict, insecure=False).camera("edge"))
        edge._connected.set()
        edge.stop()
        await asyncio.wait_for(edge.run(), SOON_S / 2)
        return edge

    edge = uvloop.run(run(Endpoint("127.0.0.1", 9)))
    assert not edge._connected.is_set()
    assert (edge.watch.edge.connected, edge.watch.edge.said) == (False, "ended")


def test_an_edge_is_ready_while_a_cloud_is_there_and_frames_come_when_they_are_asked_for() -> None:
    async def make(cloud: Endpoint) -> EdgeDaemon:
        options = EdgeOptions(cloud, new_hello(1, 7, "edge", Cipher.AES_256_GCM), KEY, 4, 2.0, None)
        metrics = EdgeMetrics(CollectorRegistry(), dict, insecure=False).camera("camera")
        camera = SimpleNamespace(name="the door", interval=None, skipped=3)
        parts = Camera(options, camera, None, None, CameraStatus("edge"), Log("gradfec-edge"))
        return EdgeDaemon(parts, metrics)

    edge = asyncio.run(make(Endpoint("cloud", 9000)))
    assert edge.why_not_ready() == "not connected to cloud:9000"
    edge._refusal = "cloud:9000 takes no edge now: it serves 256 edges already"
    assert edge.why_not_ready() == edge._refusal
    edge._connected.set()
    assert edge.why_not_ready() == "no frame from the door"  # not one so far
    now = time.monotonic()
    edge._frame_at = now - 100  # and none was asked for since: all are on their way
    assert edge.why_not_ready() == ""
    assert edge.snapshot().frame_age_s >= 100
    assert edge.snapshot().delivering
    edge._asking_since = now - 60
    assert edge.why_not_ready() == "no frame from the door"
    assert not edge.snapshot().delivering
    edge.source.interval = 60.0  # as slow as it is said to be
    assert edge.why_not_ready() == ""
    edge._leaving = True
    assert edge.why_not_ready() == "it is leaving"
