"""A real mosquitto, and a client that hears everything it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
SOON_S = 60.0  # a safety net


class Broker:
    """A mosquitto that can be stopped and started, on one port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        text = "\n".join([f"listener {self.port} 127.0.0.1", *(lines or ["allow_anonymous true"])])
        self._config.write_text(f"{text}\nuser root\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + SOON_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)

    def keep(self, topic: str, payload: str) -> None:
        """Publish what the broker shall keep, as an earlier client would have."""
        from aiomqtt import Client

        async def publish() -> None:
            async with Client("127.0.0.1", self.port) as client:
                await client.publish(topic, payload, qos=1, retain=True)

        asyncio.run(publish())

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextmanager
def broker(folder: Path, *lines: str) -> Iterator[Broker]:
    made = Broker(folder, *lines)
    made.start()
    yield made
    made.stop()


class Heard(NamedTuple):
    """A message, and whether the broker had kept it from before."""

    topic: str
    payload: Any
    retained: bool
    at: float  # by time.monotonic()


class Listener:
    """Hears all messages of a broker, from its start on."""

    def __init__(self, port: int, **options: Any) -> None:
        self.heard: list[Heard] = []
        self._changed = threading.Condition()
        self._port, self._options = port, options
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._subscribed.wait(SOON_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._listen())

    async def _listen(self) -> None:
        from aiomqtt import Client, MqttError

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        with contextlib.suppress(MqttError):
            async with Client("127.0.0.1", self._port, **self._options) as client:
                await client.subscribe("#", qos=1)
                self._subscribed.set()
                async for message in client.messages:
                    text = bytes(message.payload).decode()
                    payload = json.loads(text) if text.startswith("{") else text
                    with self._changed:
                        self.heard.append(Heard(str(message.topic), payload, message.retain, time.monotonic()))
                        self._changed.notify_all()

    def until(self, enough: Callable[[list[Heard]], bool]) -> list[Heard]:
        """Wait until what was heard is enough."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.heard), SOON_S), self.heard[-20:]
            return [*self.heard]

    def until_it_hears(self, topic: str, payload: Any = None) -> Any:
        """Wait for a message on a topic, any or this one, and return its payload."""

        def fitting(heard: list[Heard]) -> list[Any]:
            return [one.payload for one in heard if one.topic == topic and payload in (None, one.payload)]

        return fitting(self.until(lambda heard: bool(fitting(heard))))[-1]

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


@contextmanager
def listening(port: int, **options: Any) -> Iterator[Listener]:
    listener = Listener(port, **options)
    yield listener
    listener.close()
