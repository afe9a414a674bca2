"""`webhook`: each answer, or those that a condition picks, as a signed POST to a URL."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from gradfec_cloud.options import Given
from gradfec_cloud.outward.backoff import backoff_s
from gradfec_cloud.outward.condition import Condition, read_condition
from gradfec_cloud.outward.news import Answered, News
from gradfec_cloud.outward.outbox import Outbox
from gradfec_cloud.outward.signature import read_signing_key, signed
from gradfec_cloud.outward.sink import Labels, SinkKind
from gradfec_common.errors import UsageError
from gradfec_host.extras import need
from gradfec_host.logs import Log

if TYPE_CHECKING:
    from aiohttp import ClientSession

AT_ONCE = 4  # requests
TRIES = 5  # of each answer
WITHIN_S = 10.0  # a request, from looking up the name to the end of the response
TRY_AGAIN = {408, 425, 429}  # of the statuses that otherwise say that the request is wrong


@dataclass(frozen=True)
class Address:
    """A webhook's URL, shown without its path, which may be a secret."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


class AddressType(click.ParamType[Address]):
    """A click type for an http or https URL."""

    name = "URL"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse `value`, or fail with a sentence that does not show its path."""
        if isinstance(value, Address):
            return value
        try:
            parts = urlsplit(str(value))
            good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            self.fail("this is not a URL: write http://HOST/... or https://HOST/...", param, ctx)
        return Address(str(value))


@dataclass
class Webhook:
    """Posts answers to `address`, a few at a time, and each at most TRIES times."""

    address: Address
    key: bytes | None = field(default=None, repr=False)
    condition: Condition | None = None
    chance: Callable[[], float] = random.random
    clock: Callable[[], float] = time.time  # Unix time
    _well: bool = True

    def wants(self, news: News) -> bool:
        """Return whether it is an answer for which the condition holds."""
        if not isinstance(news, Answered):
            return False
        return self.condition is None or self.condition.holds(news.edge, news.lines)

    async def run(self, outbox: Outbox, log: Log) -> None:
        """Post what the outbox has."""
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

        timeout = ClientTimeout(total=WITHIN_S)
        async with ClientSession(timeout=timeout, cookie_jar=DummyCookieJar()) as session:
            posting = [asyncio.create_task(self._post_all(session, outbox, log)) for _ in range(AT_ONCE)]
            try:
                await asyncio.gather(*posting)
            finally:
                for task in posting:
                    task.cancel()

    async def _post_all(self, session: ClientSession, outbox: Outbox, log: Log) -> None:
        while True:
            news = await outbox.get()
            if isinstance(news, Answered):
                outbox.done(delivered=await self._deliver(session, news, log))

    async def _deliver(self, session: ClientSession, news: Answered, log: Log) -> bool:
        """Try until the receiver has taken an answer, has refused it, or has failed TRIES times."""
        body = json.dumps(news.record, separators=(",", ":")).encode()
        number = f"msg_{secrets.token_hex(12)}"  # the same at each try, so that a receiver can tell
        for failures in range(1, TRIES + 1):
            reason, again = await self._post(session, number, body)
            self._tell(reason, log)
            if not again:
                return not reason
            if failures < TRIES:
                await asyncio.sleep(backoff_s(failures, self.chance()))
        return False

    async def _post(self, session: ClientSession, number: str, body: bytes) -> tuple[str, bool]:
        """Return why a request has failed, or "", and whether another may succeed."""
        from aiohttp import ClientError

        headers = {"Content-Type": "application/json", **signed(self.key, number, self.clock(), body)}
        try:
            async with session.post(self.address.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except asyncio.TimeoutError:
            return f"it has not answered within {WITHIN_S:g} s", True
        except (ClientError, OSError, ValueError) as error:
            return str(error).replace(self.address.url, str(self.address)) or type(error).__name__, True
        return "" if 200 <= status < 300 else f"it answers {status}", status >= 500 or status in TRY_AGAIN

    def _tell(self, reason: str, log: Log) -> None:
        """Log that the receiver has begun, or ceased, to fail."""
        if self._well and reason:
            log.warning(f"the webhook {self.address} fails: {reason}", event="webhook_failed", reason=reason)
        elif not self._well and not reason:
            log.info(f"the webhook {self.address} takes answers again", event="webhook_recovered")
        self._well = not reason


def open_webhook(given: Given, labels: Labels) -> Webhook | None:
    """Return what the options ask for; UsageError if they are wrong."""
    address, key, on = given["webhook"], given["webhook_key"], given["on"]
    if address is None:
        for option, value in (("--webhook-key", key), ("--on", on)):
            if value is not None:
                raise UsageError(f"{option} is for a webhook: give it with --webhook URL")
        return None
    from gradfec_host.key_files import read_secret

    need("aiohttp")
    try:
        condition = None if on is None else read_condition(on, labels)
    except UsageError as error:
        raise UsageError(f"--on {on!r}, {error}") from None
    return Webhook(address, None if key is None else read_signing_key(read_secret(key, "webhook's key")), condition)


WEBHOOK = SinkKind(
    "webhook",
    (
        click.option(
            "--webhook",
            type=AddressType(),
            help="POST each answer to this URL, as one JSON object like a results file's.",
        ),
        click.option(
            "--webhook-key",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Sign each POST with the key in this file, base64 of 24 to 64 bytes.",
        ),
        click.option(
            "--on",
            metavar="CONDITION",
            help="POST only answers with a line for which this holds: comparisons of label, score and edge, with and, "
            "or, not, in {...} and parentheses, such as 'label in {person, car} and score > 0.6'.",
        ),
    ),
    open_webhook,
)
