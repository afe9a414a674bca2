"""`mqtt`: answers, counts and who is connected to an MQTT 5 broker, and cameras to Home Assistant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

from gradfec_cloud.options import Given
from gradfec_cloud.outward.backoff import backoff_s
from gradfec_cloud.outward.cameras import OFFLINE, ONLINE, STATE_EVERY_S, Cameras, Message, Watched
from gradfec_cloud.outward.condition import check_label
from gradfec_cloud.outward.news import Answered, News
from gradfec_cloud.outward.outbox import Outbox
from gradfec_cloud.outward.sink import Labels, SinkKind
from gradfec_common.errors import UsageError
from gradfec_host.console import version
from gradfec_host.extras import need
from gradfec_host.logs import Log

if TYPE_CHECKING:
    import aiomqtt
    from aiomqtt import Client

PASSWORD_VARIABLE = "GRADFEC_MQTT_PASSWORD"
PORTS = {"mqtt": 1883, "mqtts": 8883}
WITHIN_S = 10.0  # a message, or a connection
GOODBYE_S = 1.0
KEEPALIVE_S = 15  # after one and a half of it without a word from the cloud, the broker publishes its last will
LEVEL = re.compile(r"[^/+#\x00-\x1f\x7f]+")  # of a topic
NO_TOPIC = "cannot begin a topic: no level may be empty, or have + or # in it"
MOST_KEPT = 1000  # messages of the broker that wait
SILENT = logging.Logger("aiomqtt", logging.CRITICAL)  # `run` says what is wrong, once
SEEN_FROM = 0.5  # the score from which a label counts


@dataclass(frozen=True)
class Broker:
    """A broker, and the topic below which all others are."""

    host: str
    port: int
    tls: bool
    user: str | None
    prefix: str

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}/{self.prefix}"


class BrokerType(click.ParamType[Broker]):
    """A click type for mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts."""

    name = "URL"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Broker:
        """Parse `value`, or fail with a sentence that says what is wrong."""
        if isinstance(value, Broker):
            return value
        try:
            parts = urlsplit(str(value))
            port = parts.port or PORTS.get(parts.scheme)
        except ValueError:
            self.fail("this is not a URL: write mqtts://USER@HOST:8883/PREFIX", param, ctx)
        if not parts.hostname or port is None:
            self.fail(
                "this is not a broker's URL: write mqtts://USER@HOST:8883/PREFIX, or mqtt:// without TLS", param, ctx
            )
        if parts.password is not None:
            self.fail(
                f"a password here is for all to see: put it into a file, --mqtt-password, or into ${PASSWORD_VARIABLE}",
                *(param, ctx),
            )
        prefix = unquote(parts.path.removeprefix("/").removesuffix("/")) or "gradfec"
        if not can_begin_topics(prefix):
            self.fail(f"{prefix!r} {NO_TOPIC}", param, ctx)
        user = unquote(parts.username) if parts.username else None
        return Broker(parts.hostname, port, parts.scheme == "mqtts", user, prefix)


def can_begin_topics(text: str) -> bool:
    """Return whether a topic may begin with these levels, and be published to."""
    return all(LEVEL.fullmatch(level) for level in text.split("/")) and not text.startswith("$")


class _Kept(asyncio.Queue["aiomqtt.Message"]):
    """Links that the broker has kept as online. It may send them without end: what has no room is forgotten."""

    def put_nowait(self, item: aiomqtt.Message) -> None:
        if item.payload == ONLINE.encode() and not self.full():
            super().put_nowait(item)


class Mqtt:
    """Publishes news at a broker, and never stops trying to reach it."""

    def __init__(self, broker: Broker, password: str | None, cameras: Cameras) -> None:
        """Connect once this runs."""
        self._broker, self._password, self._cameras = broker, password, cameras
        self._failures = 0

    def wants(self, news: News) -> bool:
        """Return True: it takes everything."""
        return True

    async def run(self, outbox: Outbox, log: Log) -> None:
        """Publish what the outbox has, whenever the broker is there."""
        from aiomqtt import MqttError

        asyncio.get_running_loop().set_exception_handler(_unless_disconnected)
        while True:
            try:
                async with self._client() as client:
                    await self._say_all(client, outbox, log)
            except (MqttError, OSError, ValueError) as error:
                self._failures += 1
                if self._failures == 1:
                    log.warning(f"the broker {self._broker} is away: {error}", event="mqtt_away", reason=str(error))
            await asyncio.sleep(backoff_s(self._failures, random.random()))

    def _client(self) -> Client:
        from aiomqtt import Client, ProtocolVersion, Will

        return Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.user,
            password=self._password,
            protocol=ProtocolVersion.V5,
            will=Will(self._cameras.availability, OFFLINE, qos=1, retain=True),
            keepalive=KEEPALIVE_S,
            timeout=WITHIN_S,
            queue_type=_Kept,
            max_queued_incoming_messages=MOST_KEPT,
            logger=SILENT,
            tls_context=ssl.create_default_context() if self._broker.tls else None,
        )

    async def _say_all(self, client: Client, outbox: Outbox, log: Log) -> None:
        """Publish until the connection breaks, or this is cancelled."""
        for message in self._cameras.all_again(time.monotonic()):
            await _publish(client, message)
        if self._failures:
            log.info(f"the broker {self._broker} is back", event="mqtt_back")
        self._failures = 0
        parts = (self._publish_news(client, outbox), self._publish_states(client), self._correct(client))
        tasks = [*map(asyncio.create_task, parts)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await client.publish(self._cameras.availability, OFFLINE, qos=1, retain=True, timeout=GOODBYE_S)
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def _correct(self, client: Client) -> None:
        """Correct what an earlier run has left behind, until the connection breaks, which is an error here."""
        await client.subscribe(self._cameras.links, qos=1)
        async for message in client.messages:
            if message.retain and isinstance(message.payload, bytes):
                corrected = self._cameras.corrected(str(message.topic), message.payload)
                if corrected is not None:
                    await _publish(client, corrected)

    async def _publish_news(self, client: Client, outbox: Outbox) -> None:
        while True:
            news, delivered = await outbox.get(), False
            try:
                for message in self._cameras.about(news, time.monotonic()):
                    await _publish(client, message)
                delivered = True
            finally:
                if isinstance(news, Answered):
                    outbox.done(delivered=delivered)

    async def _publish_states(self, client: Client) -> None:
        """Publish states that become due between answers."""
        while True:
            await asyncio.sleep(STATE_EVERY_S)
            for message in self._cameras.due(time.monotonic()):
                await _publish(client, message)


def _unless_disconnected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say that nobody took an exception, unless it is aiomqtt's that the broker has closed the connection."""
    from aiomqtt import MqttError

    if not isinstance(context.get("exception"), MqttError):
        loop.default_exception_handler(context)


async def _publish(client: Client, message: Message) -> None:
    """Publish a message: at least once if the broker should keep it, otherwise at most once."""
    text = message.payload if isinstance(message.payload, str) else json.dumps(message.payload, separators=(",", ":"))
    await client.publish(message.topic, text, qos=int(message.retain), retain=message.retain)


def read_watched(text: str, labels: Labels) -> list[Watched]:
    """Read labels, separated by commas, each with or without :SCORE; UsageError if one is wrong."""
    found = []
    for part in text.split(","):
        label, colon, score = part.strip().partition(":")
        try:
            if not label or not 0 <= (least := float(score) if colon else SEEN_FROM) <= 1:
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--watch-for: {part.strip()!r} is not LABEL or LABEL:SCORE, with a score from 0 to 1"
            ) from None
        check_label(label, labels)
        found.append(Watched(label, least))
    return found


def open_mqtt(given: Given, labels: Labels) -> Mqtt | None:
    """Return what the options ask for; UsageError if they are wrong."""
    from gradfec_host.key_files import read_secret

    broker, file = given["mqtt"], given["mqtt_password"]
    discovery, watch_for = given["home_assistant"], given["watch_for"]
    if broker is None:
        for option, value in (("--mqtt-password", file), ("--home-assistant", discovery), ("--watch-for", watch_for)):
            if value is not None:
                raise UsageError(f"{option} is for a broker: give it with --mqtt URL")
        return None
    need("aiomqtt")
    password = read_secret(file, "broker's password") if file else os.environ.get(PASSWORD_VARIABLE)
    if password is not None and broker.user is None:
        raise UsageError("there is a password for the broker, but no user: write --mqtt mqtts://USER@HOST")
    if discovery is not None and not can_begin_topics(discovery):
        raise UsageError(f"--home-assistant: {discovery!r} {NO_TOPIC}")
    watched = read_watched(watch_for, labels) if watch_for is not None else []
    return Mqtt(broker, password, Cameras(broker.prefix, discovery, watched, version()))


MQTT = SinkKind(
    "mqtt",
    (
        click.option(
            "--mqtt",
            type=BrokerType(),
            help="Publish each answer at this MQTT 5 broker, below a prefix: mqtts://USER@HOST:8883/PREFIX, or mqtt:// "
            "without TLS.",
        ),
        click.option(
            "--mqtt-password",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"File of the password for the broker. [default: ${PASSWORD_VARIABLE}, if it is set]",
            show_default=False,
        ),
        click.option(
            "--home-assistant",
            metavar="TOPIC",
            help="Announce each camera to Home Assistant, below its discovery prefix, by default homeassistant.",
        ),
        click.option(
            "--watch-for",
            metavar="LABELS",
            help="Tell by MQTT whether each of these labels is seen, such as 'person, car:0.8': in an answer, with a "
            f"score of {SEEN_FROM:g}, or of what follows the colon.",
        ),
    ),
    open_mqtt,
)
