"""The webhook against real receivers: those that take answers, and those that are slow, refuse, fail or hang."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cloud.outward.receiver import SOON_S, receiver
from tests.cloud.outward.test_every_sink import nothing

from gradfec_cloud.outward import backoff, open_sinks, webhook
from gradfec_cloud.outward.backoff import backoff_s
from gradfec_cloud.outward.condition import read_condition
from gradfec_cloud.outward.news import Answered, Linked
from gradfec_cloud.outward.outward import Outward
from gradfec_cloud.outward.signature import read_signing_key, signed
from gradfec_cloud.outward.webhook import Address, AddressType, Webhook
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.logs import Log

pytest.importorskip("aiohttp")

KEY = bytes(range(32))
AT = 1767323045.9


def answered(number: int, label: str = "person", score: float = 0.9) -> Answered:
    return Answered("door", {"tensor": number, "edge": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}, [(label, score)])


@contextmanager
def posting(url: str, **options: Any) -> Iterator[Outward]:
    outward = Outward({"webhook": Webhook(Address(url), **options)}, Log("gradfec-cloud"))
    outward.start()
    yield outward
    outward.close()


def counts(outward: Outward, **fates: int) -> bool:
    return outward.counts["webhook"] == {"delivered": 0, "failed": 0, "dropped": 0, "waiting": 0, **fates}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.001)
    monkeypatch.setattr(webhook, "AT_ONCE", 1)


def test_an_answer_is_posted_as_its_record_and_signed_as_standard_webhooks_are() -> None:
    with receiver(204) as (url, posts), posting(url, key=KEY, clock=lambda: AT) as outward:
        outward.tell(answered(7))
        post = posts.get(timeout=SOON_S)
    assert post.path == "/hook/s3cret"
    assert post.headers["Content-Type"] == "application/json"
    assert json.loads(post.body) == answered(7).record
    number, seconds = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    assert seconds == "1767323045"
    expected = hmac.new(KEY, f"{number}.{seconds}.".encode() + post.body, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert counts(outward, delivered=1)


def test_a_signature_is_that_of_the_specifications_example() -> None:
    key = read_signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_without_a_key_there_is_no_signature() -> None:
    with receiver(200) as (url, posts), posting(url) as outward:
        outward.tell(answered(0))
        assert "webhook-signature" not in posts.get(timeout=SOON_S).headers


def test_only_answers_for_which_the_condition_holds_are_posted() -> None:
    hook = Webhook(Address("http://here"), condition=read_condition("label == person and score > 0.6"))
    wanted = [hook.wants(news) for news in (answered(0), answered(1, score=0.5), answered(2, "dog"))]
    assert wanted == [True, False, False]
    assert not Webhook(Address("http://here")).wants(Linked("door", True))


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_a_receiver_that_may_recover_gets_the_same_answer_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with receiver(status, status, 200) as (url, posts), posting(url) as outward:
        outward.tell(answered(7))
        tries = [posts.get(timeout=SOON_S) for _ in range(3)]
    assert len({(post.headers["webhook-id"], post.body) for post in tries}) == 1
    assert counts(outward, delivered=1)
    where = url.removesuffix("/hook/s3cret")
    assert caplog.messages == [
        f"the webhook {where} fails: it answers {status}",
        f"the webhook {where} takes answers again",
    ]


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_receiver_that_refuses_an_answer_does_not_get_it_again_and_is_not_followed(status: int) -> None:
    with receiver(status) as (url, posts), posting(url) as outward:
        outward.tell(answered(0))
        outward.tell(answered(1))
        assert [posts.get(timeout=SOON_S).path for _ in range(2)] == ["/hook/s3cret"] * 2
    assert posts.empty()
    assert counts(outward, failed=2)


def test_an_answer_is_given_up_after_a_few_tries_and_the_next_one_has_its_turn() -> None:
    with receiver(500) as (url, posts), posting(url) as outward:
        outward.tell(answered(0))
        outward.tell(answered(1))
        bodies = [json.loads(posts.get(timeout=SOON_S).body)["tensor"] for _ in range(2 * webhook.TRIES)]
    assert bodies == [0] * webhook.TRIES + [1] * webhook.TRIES
    assert counts(outward, failed=2)


def test_a_receiver_that_is_not_there_costs_answers_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with posting(f"http://127.0.0.1:{port}/s3cret") as outward:
        outward.tell(answered(0))
    assert counts(outward, failed=1)
    (line,) = caplog.messages  # one, however often it fails
    assert f"the webhook http://127.0.0.1:{port} fails: " in line
    assert "s3cret" not in line


def test_a_receiver_that_hangs_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "WITHIN_S", 0.05)
    monkeypatch.setattr(webhook, "TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with posting(f"http://127.0.0.1:{silent.getsockname()[1]}/") as outward:
            outward.tell(answered(0))
        assert counts(outward, failed=1)
    assert caplog.messages[0].endswith("it has not answered within 0.05 s")


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_double_up_to_a_limit_and_chance_spreads_them(chance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.5)
    pauses = [backoff_s(failures, chance) for failures in (1, 2, 3, 10, 10_000)]
    assert pauses == [pause * (1 - chance / 2) for pause in (0.5, 1.0, 2.0, 10.0, 10.0)]


Made = Callable[..., dict[str, Any]]


@pytest.fixture
def given(tmp_path: Path) -> Made:
    """The options, of which a key is written into a file."""

    def make(key: str | None = None, **options: Any) -> dict[str, Any]:
        path = tmp_path / "webhook.key"
        if key is not None:
            path.write_text(key)
            path.chmod(0o600)
        return {**nothing(), "webhook_key": path if key is not None else None, **options}

    return make


def test_it_is_off_unless_it_is_asked_for(given: Made) -> None:
    assert open_sinks(given(), frozenset()) == {}


def test_the_options_make_a_webhook(given: Made) -> None:
    key = base64.b64encode(KEY).decode()
    sinks = open_sinks(given(f"{key}\n", webhook=Address("https://here/x"), on="score > 0.5"), frozenset())
    hook = sinks["webhook"]
    assert isinstance(hook, Webhook)
    assert (hook.key, str(hook.address)) == (KEY, "https://here")
    assert "here/x" not in str(hook.address)
    assert hook.wants(answered(0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on": "score > 1"}, "--on is for a webhook: give it with --webhook URL"),
        ({"key": "a"}, "--webhook-key is for a webhook: give it with --webhook URL"),
        ({"webhook": Address("http://here"), "on": "score >"}, "--on 'score >', column 8: expected a number"),
        (
            {"webhook": Address("http://here"), "on": "label == dgo"},
            "--on 'label == dgo', column 10: no network here has",
        ),
        ({"webhook": Address("http://here"), "key": "short"}, "a webhook's key is base64 of 24 to 64 bytes: `openssl"),
        ({"webhook": Address("http://here"), "key": ""}, "should hold one line, the webhook's key, and has 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str, given: Made) -> None:
    with pytest.raises(GradfecError) as error:
        open_sinks(given(**options), frozenset({"dog"}))
    assert said in str(error.value)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no permissions here")
def test_a_key_that_others_can_read_is_refused(given: Made) -> None:
    options = given(base64.b64encode(KEY).decode(), webhook=Address("http://here"))
    options["webhook_key"].chmod(0o644)
    with pytest.raises(GradfecError, match="users other than its owner have access to the webhook's key"):
        open_sinks(options, frozenset())


@pytest.mark.parametrize("url", ["", "here", "ftp://here", "http://", "http://[", "http://here:99999/", "http://:80/"])
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(Exception, match="this is not a URL") as error:
        AddressType().convert(url, None, None)
    assert not isinstance(error.value, UsageError)


def test_a_url_keeps_its_port_and_hides_its_path() -> None:
    assert (
        str(AddressType().convert("https://user:word@here.example:8443/a?b=c", None, None))
        == "https://here.example:8443"
    )
