"""MQTT against a real mosquitto: one that is there, goes, hangs and comes back, with TLS and a password."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click import BadParameter
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cloud.outward.broker import MOSQUITTO, SOON_S, Broker, broker, listening
from tests.cloud.outward.home_assistant import DEVICE, DISCOVERY_TOPIC
from tests.cloud.outward.test_cameras import answered
from tests.cloud.outward.test_every_sink import nothing

from gradfec_cloud.outward import backoff, open_sinks
from gradfec_cloud.outward.cameras import ONLINE, Cameras, Watched
from gradfec_cloud.outward.mqtt import MOST_KEPT, PASSWORD_VARIABLE, BrokerType, Mqtt, read_watched
from gradfec_cloud.outward.news import Linked
from gradfec_cloud.outward.outbox import MOST_ANSWERS
from gradfec_cloud.outward.outward import Outward
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.logs import Log

aiomqtt = pytest.importorskip("aiomqtt")
real = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: it is in Debian's package mosquitto")
NOTHING = nothing()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.05)
    monkeypatch.setattr(backoff, "LONGEST_S", 0.2)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


@contextmanager
def telling(url: str, **options: Any) -> Iterator[Outward]:
    """Open the sink as the command does, and run it."""
    where = BrokerType().convert(url, None, None)
    outward = Outward(open_sinks({**NOTHING, "mqtt": where, **options}, frozenset()), Log("gradfec-cloud"))
    outward.start()
    yield outward
    outward.close()


def until(outward: Outward, **fates: int) -> dict[str, int]:
    end = time.monotonic() + SOON_S
    while True:
        counts = outward.counts["mqtt"]
        if all(counts[fate] >= least for fate, least in fates.items()):
            return counts
        assert time.monotonic() < end, counts
        time.sleep(0.02)


@real
def test_a_camera_is_announced_and_its_answers_and_state_are_published(tmp_path: Path) -> None:
    with broker(tmp_path) as at, listening(at.port) as ear:
        url = f"mqtt://127.0.0.1:{at.port}/home/cameras"
        with telling(url, home_assistant="homeassistant", watch_for="person,car:0.8") as outward:
            assert ear.until_it_hears("home/cameras/availability") == "online"
            outward.tell(Linked("door", True))
            outward.tell(answered("person"))
            assert ear.until_it_hears("home/cameras/door/answer") == answered("person").record
            assert ear.until_it_hears("home/cameras/door/state")["seen"] == {"person": True, "car": False}
            assert ear.until_it_hears("home/cameras/door/link") == "online"
            outward.tell(Linked("door", False))
            ear.until_it_hears("home/cameras/door/link", "offline")
        ear.until_it_hears("home/cameras/availability", "offline")  # it said goodbye
        announced = [one for one in ear.heard if re.fullmatch(DISCOVERY_TOPIC, one.topic)]
        assert len(announced) == 1
        jsonschema.validate(announced[0].payload, DEVICE)
        with listening(at.port) as later:  # as Home Assistant does when it starts
            kept = later.until(lambda heard: len(heard) >= 4)
        assert all(one.retained for one in kept)
        assert {one.topic for one in kept} == {
            announced[0].topic, "home/cameras/availability", "home/cameras/door/link", "home/cameras/door/state",
        }  # fmt: skip


@real
def test_a_broker_that_stops_and_comes_back_is_told_everything_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with broker(tmp_path) as at, telling(f"mqtt://127.0.0.1:{at.port}", home_assistant="homeassistant") as outward:
        outward.tell(Linked("door", True))
        outward.tell(answered())
        until(outward, delivered=1)
        at.stop()
        outward.tell(answered(edge="yard"))
        for _ in range(19):
            outward.tell(answered())
        time.sleep(0.5)
        assert outward.counts["mqtt"]["waiting"] >= 19  # all but the one that it had in hand
        at.start()  # it keeps nothing on a disk
        counts = until(outward, delivered=20)
        assert counts["failed"] <= 1
        assert counts["dropped"] == counts["waiting"] == 0
        with listening(at.port) as ear:
            again = {f"homeassistant/device/gradfec_{name}/config" for name in ("door", "yard")}
            again |= {"gradfec/door/link", "gradfec/yard/link", "gradfec/door/state", "gradfec/availability"}
            ear.until(lambda heard: again <= {one.topic for one in heard if one.retained})
            ear.until_it_hears("gradfec/availability", "online")
    said = [record.event for record in caplog.records]
    assert said == ["mqtt_away", "mqtt_back"]


@real
def test_a_broker_that_hangs_costs_the_oldest_answers_and_telling_does_not_wait(tmp_path: Path) -> None:
    with broker(tmp_path) as at, telling(f"mqtt://127.0.0.1:{at.port}") as outward:
        outward.tell(answered())
        until(outward, delivered=1)
        at.process.send_signal(signal.SIGSTOP)
        large = answered(padding="x" * 20_000)  # soon more than the socket's buffers hold
        for _ in range(MOST_ANSWERS + 500):
            outward.tell(large)
        counts = until(outward, dropped=1)
        assert counts["waiting"] <= MOST_ANSWERS + 1
        at.process.send_signal(signal.SIGCONT)
        counts = until(outward, delivered=MOST_ANSWERS)
        assert sum(counts.values()) == MOST_ANSWERS + 501


@real
def test_edges_of_a_killed_cloud_are_offline_once_there_is_another(tmp_path: Path) -> None:
    with broker(tmp_path) as at:
        at.keep("gradfec/gate/link", "online")
        with listening(at.port) as ear, telling(f"mqtt://127.0.0.1:{at.port}") as outward:
            outward.tell(answered())
            ear.until_it_hears("gradfec/gate/link", "offline")
            assert ear.until_it_hears("gradfec/door/link") == "online"


@real
def test_a_broker_that_sends_without_end_fills_no_memory() -> None:
    async def put() -> int:
        client = Mqtt(
            BrokerType().convert("mqtt://127.0.0.1", None, None), None, Cameras("gradfec", None, [], "")
        )._client()
        for number in range(2 * MOST_KEPT):
            for payload in (ONLINE.encode(), bytes(10_000)):
                client._queue.put_nowait(aiomqtt.Message(f"gradfec/{number}/link", payload, 0, True, number, None))
        kept = [client._queue.get_nowait().payload for _ in range(client._queue.qsize())]
        assert {*kept} == {ONLINE.encode()}
        return len(kept)

    assert asyncio.run(put()) == MOST_KEPT


def test_a_broker_that_hangs_up_at_once_is_said_to_be_away_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    hung_up = threading.Semaphore(0)

    def greet_and_hang_up(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(bytes([0x20, 3, 0, 0, 0]))  # CONNACK: success
                hung_up.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet_and_hang_up, args=[listener], daemon=True).start()
        with telling(f"mqtt://127.0.0.1:{listener.getsockname()[1]}"):
            for _ in range(4):
                assert hung_up.acquire(timeout=SOON_S)
    gc.collect()  # then asyncio says which exceptions nobody has taken
    (line,) = caplog.messages
    assert " is away: " in line


def test_a_broker_that_was_never_there_is_waited_for(tmp_path: Path) -> None:
    at = Broker(tmp_path)
    with telling(f"mqtt://127.0.0.1:{at.port}") as outward:
        outward.tell(answered())
        time.sleep(0.2)
        at.start()
        until(outward, delivered=1)
    at.stop()


def certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1, which signs itself, and its key."""
    import ipaddress

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem"


@real
def test_with_tls_and_a_password_only_the_right_ones_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trusted, users, password = certificate(tmp_path), tmp_path / "users", tmp_path / "password"
    subprocess.run(["mosquitto_passwd", "-c", "-b", users, "gradfec", "open sesame"], check=True)
    password.write_text("open sesame\n")
    password.chmod(0o600)
    lines = (
        f"certfile {trusted}",
        f"keyfile {tmp_path / 'key.pem'}",
        f"password_file {users}",
        "allow_anonymous false",
    )
    with broker(tmp_path, *lines) as at:
        url = f"mqtts://gradfec@127.0.0.1:{at.port}"
        for words, file, trust in (("certificate", password, None), ("Not authorized", None, trusted)):
            caplog.clear()
            monkeypatch.setenv("SSL_CERT_FILE", str(trust or tmp_path / "nothing"))
            monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
            with telling(url, mqtt_password=file) as outward:
                outward.tell(answered())
                end = time.monotonic() + SOON_S
                while not caplog.messages and time.monotonic() < end:
                    time.sleep(0.02)
            assert words.lower() in caplog.messages[0].lower()
            assert "sesame" not in caplog.text
        with telling(url, mqtt_password=password) as outward:
            outward.tell(answered())
            until(outward, delivered=1)
        tls = ssl.create_default_context(cafile=trusted)
        with listening(at.port, username="gradfec", password="open sesame", tls_context=tls) as ear:
            assert ear.until_it_hears("gradfec/availability") == "offline"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtts://anna@broker.example/a/b", "mqtts://broker.example:8883/a/b"),
        ("mqtt://broker.example", "mqtt://broker.example:1883/gradfec"),
        ("mqtt://[::1]:1/", "mqtt://::1:1/gradfec"),
    ],
)
def test_a_brokers_url_has_defaults(url: str, said: str) -> None:
    assert str(BrokerType().convert(url, None, None)) == said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("broker.example", "this is not a broker's URL: write mqtts://USER@HOST:8883/PREFIX, or mqtt:// without TLS"),
        ("http://broker.example", "this is not a broker's URL"),
        ("mqtt://", "this is not a broker's URL"),
        ("mqtt://here:99999", "this is not a URL"),
        (
            "mqtt://anna:secret@here",
            "a password here is for all to see: put it into a file, --mqtt-password, or into $",
        ),
        ("mqtt://here/a/%23", "'a/#' cannot begin a topic"),
        ("mqtt://here/a//b", "'a//b' cannot begin a topic"),
        ("mqtt://here/$SYS", "'$SYS' cannot begin a topic"),
    ],
)
def test_a_wrong_url_is_refused_and_a_password_in_it_is_not_shown(url: str, said: str) -> None:
    with pytest.raises(BadParameter) as error:
        BrokerType().convert(url, None, None)
    assert said in str(error.value)
    assert "secret" not in str(error.value)


def test_labels_are_watched_from_a_score_on() -> None:
    assert read_watched("person, car:0.8", frozenset()) == [Watched("person", 0.5), Watched("car", 0.8)]
    for text in ("", "person,", "person:high", "person:2", ":0.5", "person:nan"):
        with pytest.raises(UsageError, match="is not LABEL or LABEL:SCORE, with a score from 0 to 1"):
            read_watched(text, frozenset())
    with pytest.raises(UsageError, match="no network here has the label 'cra': did you mean car"):
        read_watched("cra", frozenset({"car"}))


BROKER = BrokerType().convert("mqtt://here", None, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mqtt_password": Path("x")}, "--mqtt-password is for a broker: give it with --mqtt URL"),
        ({"home_assistant": "homeassistant"}, "--home-assistant is for a broker"),
        ({"watch_for": "person"}, "--watch-for is for a broker"),
        ({"mqtt": BROKER, "home_assistant": "ha/#"}, "--home-assistant: 'ha/#' cannot begin a topic"),
        ({"mqtt": BROKER, "mqtt_password": Path("/nothing")}, "cannot read the broker's password /nothing"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(GradfecError) as error:
        open_sinks({**NOTHING, **options}, frozenset())
    assert said in str(error.value)


def test_a_password_without_a_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    with pytest.raises(UsageError, match="there is a password for the broker, but no user"):
        open_sinks({**NOTHING, "mqtt": BROKER}, frozenset())
