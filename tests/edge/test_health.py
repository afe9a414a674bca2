"""The health of the link: its states, waiting for them, and the messages for the user."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.session.edge import Connected, Event, LinkLost, Refused
from gradfec_common.session.handshake import HandshakeKey
from gradfec_edge import health as health_module
from gradfec_edge.health import LinkHealth, LinkState
from gradfec_edge.metrics import EdgeMetrics
from gradfec_host.console import Endpoint
from gradfec_host.logs import Log

Then = Callable[[LinkHealth], object]

SOON_S = 60.0  # a safety net
CLOUD = Endpoint("cloud", 9000)
KEY = HandshakeKey(Key(bytes(range(32))))
SECURE = f"that it has this edge's key {KEY.id.hex()} (senders without the key get no reply), "
CONNECTED, BACK = Connected(7, 0.25, fresh=True), Connected(7, 0.25, fresh=False)
LOST, LEAVING = LinkLost(leaving=False), LinkLost(leaving=True)
FULL = Refused("full", "it serves 256 edges already")
CLOSED = "cannot reach cloud:9000: nothing listens there"
UNNAMED = "cannot reach cloud:9000: Name or service not known"
REFUSED = "cloud:9000 accepts no new edges now: it serves 256 edges already"


class Registry(CollectorRegistry):
    """A registry that is asked for one camera's counts."""

    def count(self, name: str, **labels: str) -> float | None:
        return self.get_sample_value(f"gradfec_edge_{name}_total", {"camera": "door", **labels})


@pytest.fixture
def registry() -> Registry:
    return Registry()


def new_health(registry: Registry, key: HandshakeKey = KEY, wait_s: float = math.inf) -> LinkHealth:
    metrics = EdgeMetrics(registry, dict, insecure=key.insecure).camera("door")
    return LinkHealth(CLOUD, key, Log("gradfec-edge"), metrics, wait_s)


@pytest.fixture
def health(registry: Registry) -> LinkHealth:
    return new_health(registry)


@pytest.mark.parametrize("before", [None, CONNECTED, LOST, FULL], ids=["new", "connected", "lost", "refused"])
@pytest.mark.parametrize(
    ("event", "state", "why_not"),
    [
        (CONNECTED, LinkState.CONNECTED, ""),
        (LOST, LinkState.LOOKING, "not connected to cloud:9000"),
        (LEAVING, LinkState.LOOKING, "not connected to cloud:9000"),
        (FULL, LinkState.REFUSED, REFUSED),
    ],
    ids=["connected", "lost", "leaving", "refused"],
)
def test_the_last_event_decides_the_state(
    before: Event | None, event: Event, state: LinkState, why_not: str, health: LinkHealth
) -> None:
    assert health.state is LinkState.LOOKING
    if before is not None:
        health.saw(before)
    health.saw(event)
    assert (health.state, health.connected, health.why_not) == (state, state is LinkState.CONNECTED, why_not)
    health.end()
    assert (health.state, health.connected) == (LinkState.ENDED, False)


def test_each_change_of_the_link_is_counted_and_logged(
    health: LinkHealth, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "BRIEF_S", 0.001)
    caplog.set_level("INFO")

    async def run() -> None:
        health.look()
        for event in (CONNECTED, LOST, BACK, LEAVING):
            health.saw(event)
            await asyncio.sleep(0.01)

    asyncio.run(run())
    assert caplog.messages[1:] == [
        "connected to cloud:9000",
        "cloud:9000 is silent; looking for it",
        "connected to cloud:9000 again",
        "cloud:9000 is leaving; looking for it",
    ]
    assert [record.levelname for record in caplog.records[1:]] == ["INFO", "WARNING", "INFO", "WARNING"]
    assert registry.count("connections") == 2
    assert registry.count("link_losses", reason="silent") == registry.count("link_losses", reason="leaving") == 1


SILENT = "cloud:9000 is silent; looking for it"


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (lambda health: health.saw(BACK), []),
        (lambda health: health.end(), []),
        (lambda health: health.saw(CONNECTED), [SILENT, "connected to cloud:9000"]),
        (lambda health: health.found(CLOSED), [SILENT, f"{CLOSED}; trying again"]),
        (lambda health: health.saw(FULL), [SILENT, f"{REFUSED}; trying again"]),
    ],
    ids=["back", "ended", "a new session", "closed", "refused"],
)
def test_a_short_silence_is_counted_and_logged_only_if_more_follows_from_it(
    then: Then,
    told: list[str],
    health: LinkHealth,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(health_module, "BRIEF_S", 0.005)
    caplog.set_level("INFO")

    async def run() -> None:
        health.look()
        health.saw(CONNECTED)
        health.saw(LOST)
        assert not health.connected
        then(health)
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert caplog.messages[2:] == told
    assert registry.count("link_losses", reason="silent") == 1


def test_a_temporary_refusal_is_logged_once_and_counted_each_time(
    health: LinkHealth, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    for event in (FULL, FULL, Refused("leaving", "it is\nleaving"), FULL, CONNECTED, FULL):
        health.saw(event)
    told = [line for line in caplog.messages if "trying again" in line]
    other = "cloud:9000 accepts no new edges now: it is leaving"  # in one line
    assert told == [f"{line}; trying again" for line in (REFUSED, other, REFUSED, REFUSED)]
    assert registry.count("refusals", reason="full") == 4


def test_a_permanent_refusal_is_an_error(health: LinkHealth, registry: Registry) -> None:
    with pytest.raises(GradfecError, match=re.escape("cloud:9000 refuses this edge: it runs --split pool1_pool")):
        health.saw(Refused("split", "it runs --split pool1_pool"))
    assert registry.count("refusals", reason="other") == 1


def test_all_tasks_that_wait_for_the_cloud_go_on_when_it_answers(health: LinkHealth) -> None:
    async def run() -> None:
        waiting = [asyncio.ensure_future(health.until_connected()) for _ in range(3)]
        await asyncio.sleep(0.001)
        health.saw(FULL)
        await asyncio.sleep(0.001)
        assert not any(task.done() for task in waiting)
        health.saw(CONNECTED)
        await asyncio.wait(waiting, timeout=SOON_S)
        assert all(task.result() is None for task in waiting)
        await health.until_connected()  # at once

    asyncio.run(run())


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda health: None, f"no answer from cloud:9000 for 0.001 s: .*, {re.escape(SECURE)}and"),
        (lambda health: health.saw(FULL), f"{REFUSED}; gave up after 0.001 s"),
        (lambda health: health.found(CLOSED), f"{CLOSED}; gave up after 0.001 s"),
    ],
    ids=["silent", "refused", "closed"],
)
def test_waiting_too_long_is_an_error_with_the_reason(then: Then, words: str, registry: Registry) -> None:
    health = new_health(registry, wait_s=0.001)
    then(health)
    with pytest.raises(GradfecError, match=words):
        asyncio.run(health.until_connected())


def test_what_keeps_datagrams_from_the_cloud_is_logged_once_until_the_cloud_answers(
    health: LinkHealth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    for trouble in (CLOSED, "", CLOSED, UNNAMED, UNNAMED):  # "": an ICMP message that is missing proves nothing
        health.found(trouble)
    assert caplog.messages == [f"{CLOSED}; trying again", f"{UNNAMED}; trying again"]
    assert health.why_not == UNNAMED
    health.saw(CONNECTED)
    health.found(UNNAMED)  # asked before the cloud answered
    assert health.why_not == ""
    health.saw(LOST)
    assert health.why_not == "not connected to cloud:9000"
    health.found(CLOSED)
    assert caplog.messages[2:] == [f"{CLOSED}; trying again"]


async def looked(health: LinkHealth, then: Then) -> None:
    """Look for the cloud, let something happen, and wait for longer than patience lasts."""
    health.look()
    then(health)
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("key", "words"),
    [(KEY, SECURE), (HandshakeKey(INSECURE_KEY), "that it runs with --insecure, too, ")],
    ids=["a key", "insecure"],
)
def test_a_camera_whose_cloud_is_silent_logs_once_what_to_check(
    key: HandshakeKey, words: str, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "PATIENCE_S", 0.001)
    caplog.set_level("INFO")
    health = new_health(registry, key)
    asyncio.run(looked(health, lambda health: None))
    assert health.why_not == health.trouble  # for a page, which says itself since when
    assert health.trouble.startswith("no answer from cloud:9000: check that gradfec-cloud runs there, ")
    looking, told = caplog.messages
    assert looking == "looking for cloud:9000"
    assert told.startswith(
        "no answer from cloud:9000 for 0.001 s: check that gradfec-cloud runs there, of the same version as this edge, "
        f"{words}and that UDP"
    )
    assert told.endswith("; trying again")
    assert caplog.records[-1].levelname == "WARNING"
    health.found("")
    assert health.trouble
    health.found(CLOSED)
    assert health.trouble == CLOSED
    health.saw(CONNECTED)
    assert health.trouble == ""


@pytest.mark.parametrize(
    ("then", "wait_s"),
    [
        (lambda health: None, 30.0),  # a file's frames wait, and raise the error themselves
        (lambda health: health.saw(CONNECTED), math.inf),
        (lambda health: health.saw(FULL), math.inf),
        (lambda health: health.found(CLOSED), math.inf),
        (lambda health: health.end(), math.inf),
    ],
    ids=["a file", "connected", "refused", "closed", "ended"],
)
def test_there_is_no_warning_of_silence_for_a_file_or_a_cloud_that_has_answered(
    then: Then, wait_s: float, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "PATIENCE_S", 0.001)
    asyncio.run(looked(new_health(registry, wait_s=wait_s), then))
    assert not any("no answer" in line for line in caplog.messages)


@pytest.mark.parametrize(
    "then",
    [
        lambda health: health.saw(CONNECTED) or health.saw(LEAVING) or health.found(CLOSED) or health.found(""),
        lambda health: health.saw(CONNECTED) or health.saw(LOST),
        lambda health: health.found(""),
    ],
    ids=["back with another key", "lost", "reached at last"],
)
def test_a_cloud_that_falls_silent_later_is_warned_of_too(
    then: Then, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health_module, "PATIENCE_S", 0.001)

    async def run() -> LinkHealth:
        health = new_health(registry)
        await looked(health, lambda health: health.found(CLOSED))
        assert health.trouble == CLOSED  # and the first timer has run out
        then(health)
        await asyncio.sleep(0.01)
        return health

    health = asyncio.run(run())
    assert len([line for line in caplog.messages if "no answer from cloud:9000 for 0.001 s" in line]) == 1
    assert health.trouble.startswith("no answer from cloud:9000: check ")


def test_a_cloud_that_refused_and_is_gone_is_looked_for_again(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    health = new_health(registry)
    health.saw(FULL)
    health.found("")
    assert (health.state, health.why_not) == (LinkState.REFUSED, REFUSED)
    health.found(CLOSED)
    assert (health.state, health.why_not) == (LinkState.LOOKING, CLOSED)
    assert caplog.messages[-1] == f"{CLOSED}; trying again"
