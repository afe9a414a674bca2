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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tests.cloud.outward.broker import Listener, broker, listening
from tests.cloud.outward.test_cameras import answered
from tests.integration.stubbed import stubbed

from gradfec_cli.daemons import free_port
from gradfec_cloud.outward.cameras import Cameras
from gradfec_cloud.outward.condition import read_condition
from gradfec_cloud.outward.mqtt import BrokerType, Mqtt
from gradfec_cloud.outward.outward import Outward
from gradfec_cloud.outward.webhook import Address, Webhook
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


RECEIVERS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "takes": lambda: answering(0.0),
    f"takes {DELAY_S:g} s": lambda: answering(DELAY_S),
    "refuses": refusing,
    "hangs": hanging,
}


class Run(NamedTuple):
    """The latencies of a run's frames in ms, None for those without an answer, and what the sink counted."""

    latencies: list[float | None]
    fates: dict[str, int]


def run(options: tuple[str, ...], photographs: Path, seconds: float, fps: float) -> Run:
    """Send frames to a cloud with these options."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "edge.jsonl"
        listen = ("--listen", f"127.0.0.1:{port}", "--json")
        with stubbed("gradfec-cloud", *listen, *options, BACK_END_S=BACK_END_S) as cloud:
            edge_options = ("--loop", "--fps", fps, "--protect", "none", "--results", records, "--timeout-ms", 5000)
            where = ("--camera", photographs, "--cloud", f"127.0.0.1:{port}")
            with stubbed("gradfec-edge", *where, *edge_options) as edge:
                time.sleep(seconds)
                edge.stop()
            totals = cloud.totals()
        found = [json.loads(line)["latency_ms"] for line in records.read_text().splitlines()]
    return Run(found[round(fps) :], totals.get("answers_to_webhook", {}))  # without the first second


def measure_webhook(rounds: int, seconds: float, fps: float) -> None:
    print("| receiver | frames without, with | answered | p50, ms | p95, ms | ratios | delivered, failed, dropped |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads:
        for number, image in enumerate(np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), np.uint8)):
            cv2.imwrite(f"{folder}/{number}.png", image)
        for name, receiver in RECEIVERS.items():
            sides: tuple[list[Run], list[Run]] = ([], [])
            for _ in range(rounds):
                with receiver() as url:
                    each = [
                        threads.submit(run, given, Path(folder), seconds, fps) for given in ((), ("--webhook", url))
                    ]
                    for side, future in zip(sides, each, strict=True):
                        side.append(future.result())
            print_row(name, *sides)


def print_row(name: str, without: list[Run], with_it: list[Run]) -> None:
    frames = [[ms for run in side for ms in run.latencies] for side in (without, with_it)]
    some = [[ms for ms in side if ms is not None] for side in frames]
    (p50, p95), (its_p50, its_p95) = (np.percentile(side, [50, 95]) for side in some)
    fates = [str(sum(run.fates[fate] for run in with_it)) for fate in ("delivered", "failed", "dropped")]
    cells = (
        *(name, f"{len(frames[0])}, {len(frames[1])}", f"{len(some[0])}, {len(some[1])}"),
        *(f"{p50:.1f}, {its_p50:.1f}", f"{p95:.1f}, {its_p95:.1f}"),
        *(f"p50 {its_p50 / p50:.3f}, p95 {its_p95 / p95:.3f}", ", ".join(fates)),
    )
    print("| " + " | ".join(cells) + " |", flush=True)


def measure_cost(count: int, per_s: float) -> None:
    print("| receiver | daemon's thread, us an answer | sinks' thread, us an answer | delivered, failed, dropped |")
    print("|---|---|---|---|")
    condition = read_condition("label in {person, car} and score > 0.6")
    for name, receiver in RECEIVERS.items():
        with receiver() as url:
            outward = Outward({"webhook": Webhook(Address(url), bytes(32), condition)}, Log("measure"))
            outward.start()
            own_s, begin_s = 0.0, time.clock_gettime(time.pthread_getcpuclockid(outward._thread.ident or 0))
            for number in range(count):
                news = answered("person", number=number)
                before_s = time.thread_time()
                outward.tell(news)
                own_s += time.thread_time() - before_s
                time.sleep(1 / per_s)
            theirs_s = time.clock_gettime(time.pthread_getcpuclockid(outward._thread.ident or 0)) - begin_s
            fates = ", ".join(str(outward.counts["webhook"][fate]) for fate in ("delivered", "failed", "dropped"))
            print(f"| {name} | {1e6 * own_s / count:.0f} | {1e6 * theirs_s / count:.0f} | {fates} |", flush=True)
            outward.close()


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


def measure_outage(per_s: float, away_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as at:
        where = BrokerType().convert(f"mqtt://127.0.0.1:{at.port}", None, None)
        outward = Outward({"mqtt": Mqtt(where, None, Cameras("gradfec", "homeassistant", [], "1"))}, Log("measure"))
        outward.start()
        begin, tell_s, back_at, stopped = time.monotonic(), [0.0], 0.0, False
        while (now := time.monotonic() - begin) < away_s + 20:
            if 5 < now < 5 + away_s and not stopped:
                stopped = True
                at.stop()
            if now > 5 + away_s and stopped and at.process is None:
                at.start()
                back_at = time.monotonic()
                ear = Listener(at.port)
            before = time.monotonic()
            outward.tell(answered(told_at=now))
            tell_s.append(time.monotonic() - before)
            time.sleep(1 / per_s)
        heard = ear.until(lambda heard: any(map(is_answer, heard)))
        back_s = next(one.at for one in heard if is_answer(one)) - back_at
        kept = sorted({one.topic for one in heard if not is_answer(one)})
        print(
            f"told {len(tell_s) - 1}: {outward.counts['mqtt']}; a call: {1e6 * np.percentile(tell_s, 95):.0f} us (p95)"
        )
        print(f"the first answer {back_s:.1f} s after the broker was back; said again: {' '.join(kept)}")
        ear.close()
        outward.close()


def is_answer(one: object) -> bool:
    return str(getattr(one, "topic", "")).endswith("/answer")


def main() -> None:
    """Measure what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", default=["webhook", "cost", "broker", "outage"], help="webhook, cost, broker, outage"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run with a webhook")
    parser.add_argument("--fps", type=float, default=5.0)
    given = parser.parse_args()
    if "webhook" in given.what:
        measure_webhook(given.rounds, given.seconds, given.fps)
    if "cost" in given.what:
        measure_cost(400, 20.0)
    if "broker" in given.what:
        measure_broker(10_000, 60.0)
    if "outage" in given.what:
        measure_outage(10.0, 30.0)


if __name__ == "__main__":
    main()
