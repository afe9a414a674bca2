"""Measure what answers outward cost: `python -m tests.cloud.outward.measure`, with mosquitto installed.

webhook   real daemons with toy models, the cloud without a webhook and with receivers that take, delay, refuse and
          hang, in turn: the frames that are answered, and how soon
broker    10,000 answers in a minute to a mosquitto, and as many as fast as they go
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
from tests.cloud.outward.broker import broker, listening
from tests.cloud.outward.test_cameras import answered
from tests.integration.stubbed import stubbed

from gradfec_cli.daemons import free_port
from gradfec_cloud.outward.cameras import Cameras
from gradfec_cloud.outward.mqtt import BrokerType, Mqtt
from gradfec_cloud.outward.outward import Outward
from gradfec_host.logs import Log

DELAY_S = 2.0  # of a slow receiver
BACK_END_S = 0.02


@contextmanager
def answering(takes_s: float) -> Iterator[str]:
    """A receiver that takes so long for each answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(takes_s)
            with contextlib.suppress(OSError):
                self.send_response(204)
                self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@contextmanager
def refusing() -> Iterator[str]:
    """A port at which nobody listens."""
    yield f"http://127.0.0.1:{free_port()}/"


@contextmanager
def hanging() -> Iterator[str]:
    """A receiver that accepts connections, and nothing more."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/"


RECEIVERS: dict[str, Callable[[], contextlib.AbstractContextManager[str]] | None] = {
    "none": None,
    "takes": lambda: answering(0.0),
    f"takes {DELAY_S:g} s": lambda: answering(DELAY_S),
    "refuses": refusing,
    "hangs": hanging,
}


def run(
    options: tuple[str, ...], photographs: Path, seconds: float, fps: float
) -> tuple[list[float | None], dict[str, int]]:
    """Send frames to a cloud with these options; return each one's latency in ms, and what the sink counted."""
    port, records = free_port(), photographs.parent / "edge.jsonl"
    records.unlink(missing_ok=True)
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json", *options, BACK_END_S=BACK_END_S) as cloud:
        edge_options = ("--loop", "--fps", fps, "--protect", "none", "--results", records, "--timeout-ms", 2000)
        where = ("--camera", photographs, "--cloud", f"127.0.0.1:{port}")
        with stubbed("gradfec-edge", *where, *edge_options) as edge:
            time.sleep(seconds)
            edge.stop()
        totals = cloud.totals()
    found = [json.loads(line)["latency_ms"] for line in records.read_text().splitlines()]
    return found[round(fps) :], totals.get("answers_to_webhook", {})  # without the first second


def measure_webhook(rounds: int, seconds: float, fps: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        photographs = Path(folder) / "photographs"
        photographs.mkdir()
        for number, image in enumerate(np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), np.uint8)):
            cv2.imwrite(str(photographs / f"{number}.png"), image)
        found: dict[str, list[float | None]] = {name: [] for name in RECEIVERS}
        counts: dict[str, dict[str, int]] = {}
        for _ in range(rounds):
            for name, receiver in RECEIVERS.items():
                with receiver() if receiver else contextlib.nullcontext() as url:
                    options = ("--webhook", url) if url else ()
                    latencies, counts[name] = run(options, photographs, seconds, fps)
                    found[name] += latencies
    print("| webhook | frames | answered | p50, ms | p95, ms | p95, to none | delivered, failed, dropped |")
    print("|---|---|---|---|---|---|---|")
    usual = np.percentile([ms for ms in found["none"] if ms is not None], 95)
    for name, latencies in found.items():
        some = [ms for ms in latencies if ms is not None]
        p50, p95 = np.percentile(some, [50, 95])
        fates = ", ".join(str(counts[name].get(fate, "-")) for fate in ("delivered", "failed", "dropped"))
        row = (name, len(latencies), len(some), f"{p50:.1f}", f"{p95:.1f}", f"{100 * (p95 / usual - 1):+.1f} %", fates)
        print("| " + " | ".join(map(str, row)) + " |")


def measure_broker(count: int, seconds: float) -> None:
    print("| answers | in, s | delivered | dropped | heard | lag p50, ms | lag p95, ms |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as at:
        for within_s in (seconds, 0.0):
            with listening(at.port) as ear:
                where = BrokerType().convert(f"mqtt://127.0.0.1:{at.port}", None, None)
                outward = Outward({"mqtt": Mqtt(where, None, Cameras("gradfec", None, [], "1"))}, Log("measure"))
                outward.start()
                ear.until_it_hears("gradfec/availability", "online")
                begin = time.monotonic()
                for number in range(count):
                    wait_s = begin + number * within_s / count - time.monotonic()
                    if wait_s > 0:
                        time.sleep(wait_s)
                    outward.tell(answered(edge=f"edge{number % 16}", number=number, told_at=time.monotonic()))
                took_s = time.monotonic() - begin
                while outward.counts["mqtt"]["waiting"]:
                    time.sleep(0.05)
                counts = outward.counts["mqtt"]
                heard = ear.until(lambda heard: sum(map(is_answer, heard)) >= counts["delivered"])  # noqa: B023
                lags = [1000 * (one.at - one.payload["told_at"]) for one in heard if is_answer(one)]
                p50, p95 = np.percentile(lags, [50, 95])
                row = (
                    count,
                    f"{took_s:.1f}",
                    counts["delivered"],
                    counts["dropped"],
                    len(lags),
                    f"{p50:.1f}",
                    f"{p95:.1f}",
                )
                print("| " + " | ".join(map(str, row)) + " |")
                outward.close()


def is_answer(one: object) -> bool:
    return str(getattr(one, "topic", "")).endswith("/answer")


def main() -> None:
    """Measure what is named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["webhook", "broker"], help="webhook, broker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run with a webhook")
    parser.add_argument("--fps", type=float, default=10.0)
    given = parser.parse_args()
    if "webhook" in given.what:
        measure_webhook(given.rounds, given.seconds, given.fps)
    if "broker" in given.what:
        measure_broker(10_000, 60.0)


if __name__ == "__main__":
    main()
