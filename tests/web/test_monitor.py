"""What a daemon serves over HTTP, and that no client delays the daemon or another client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gradfec_cli.daemons import free_port
from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint
from gradfec_web import monitor as module
from gradfec_web.monitor import Monitor, ask, new_registry

SOON_S = 60.0  # a safety net


def silent() -> str:
    raise TimeoutError("the event loop has not answered for 5 s")


class Silent(CollectorRegistry):
    """What is to be read from a daemon that does not answer."""

    def collect(self) -> Iterator[object]:
        silent()
        yield


@contextlib.contextmanager
def serving(
    why_not_ready: Callable[[], str] = lambda: "", registry: CollectorRegistry | None = None, host: str = "127.0.0.1"
) -> Iterator[Endpoint]:
    endpoint = Endpoint(host, free_port())
    monitor = Monitor(endpoint, registry or new_registry("edge", runtime="litert"), why_not_ready)
    try:
        yield endpoint
    finally:
        monitor.close()


def get(endpoint: Endpoint, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{endpoint}{path}", timeout=SOON_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_daemon_that_is_well_is_alive_and_ready() -> None:
    with serving() as endpoint:
        assert get(endpoint, "/healthz") == (200, "alive\n")
        assert get(endpoint, "/readyz") == (200, "ready\n")


def test_a_daemon_that_is_not_ready_is_alive_and_says_why() -> None:
    with serving(lambda: "the back-end is being loaded") as endpoint:
        assert get(endpoint, "/healthz") == (200, "alive\n")
        assert get(endpoint, "/readyz") == (503, "not ready: the back-end is being loaded\n")


def test_a_daemon_that_does_not_answer_is_neither_and_no_metric_is_made_up(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(silent, Silent()) as endpoint:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert get(endpoint, path) == (503, "the event loop has not answered for 5 s\n")
    assert capfd.readouterr() == ("", "")


def test_another_page_is_not_found_and_says_what_there_is() -> None:
    with serving() as endpoint:
        assert get(endpoint, "/") == (404, "there are only /metrics, /healthz and /readyz\n")


def test_metrics_say_which_release_runs_and_what_the_process_uses() -> None:
    with serving() as endpoint:
        code, text = get(endpoint, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (build,) = families["gradfec_build_info"].samples
    assert (code, build.value) == (200, 1)
    assert {*build.labels} == {"component", "version", "python", "runtime"}
    assert (build.labels["component"], build.labels["runtime"]) == ("edge", "litert")
    assert families["process_resident_memory_bytes"].samples[0].value > 0


@pytest.mark.parametrize("host", ["", "localhost", "::1"])
def test_it_listens_where_it_is_told_to(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with serving(host=host) as endpoint:
        assert get(Endpoint(host or "127.0.0.1", endpoint.port), "/healthz")[0] == 200


def test_a_port_in_use_is_an_error_with_advice() -> None:
    with serving() as endpoint:
        words = rf"cannot serve metrics on 127\.0\.0\.1:{endpoint.port}: .*choose another --metrics"
        with pytest.raises(GradfecError, match=words):
            Monitor(endpoint, CollectorRegistry(), lambda: "")


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a request"])
def test_a_client_that_takes_too_long_is_cut_off(
    said: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 0.0)
    with serving() as endpoint, socket.create_connection(endpoint, timeout=SOON_S) as slow:
        slow.sendall(said)
        assert slow.recv(1) == b""
    assert capfd.readouterr() == ("", "")


def test_more_clients_than_there_are_places_for_are_turned_away_until_one_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    with serving() as endpoint, contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(endpoint, timeout=SOON_S)) for _ in range(2)]
        with socket.create_connection(endpoint, timeout=SOON_S) as third:
            assert third.recv(1) == b""
        held[0].close()
        end, code = time.monotonic() + SOON_S, 0
        while not code and time.monotonic() < end:  # until its place is free
            with contextlib.suppress(OSError):
                code, _ = get(endpoint, "/healthz")
        assert code == 200


def test_a_question_is_answered_on_the_loop() -> None:
    async def run() -> tuple[int, int]:
        return await asyncio.to_thread(ask, asyncio.get_running_loop(), threading.get_ident), threading.get_ident()

    asked, loop = asyncio.run(run())
    assert asked == loop


def test_a_loop_that_is_busy_is_waited_for_no_longer_than_patience_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    asked, failed = threading.Event(), threading.Event()

    def question(loop: asyncio.AbstractEventLoop) -> None:
        asked.set()
        with pytest.raises(TimeoutError, match=r"the event loop has not answered for 0\.01 s"):
            ask(loop, lambda: None)
        failed.set()

    async def run() -> None:
        thread = threading.Thread(target=question, args=[asyncio.get_running_loop()])
        thread.start()
        assert failed.wait(SOON_S)  # and the loop with it
        thread.join()

    asyncio.run(run())
    assert asked.is_set()


def test_a_loop_that_has_ended_answers_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(TimeoutError, match="the event loop has ended"):
        ask(loop, lambda: None)


def test_an_error_in_a_question_is_raised_where_it_was_asked() -> None:
    async def run() -> None:
        await asyncio.to_thread(ask, asyncio.get_running_loop(), lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
