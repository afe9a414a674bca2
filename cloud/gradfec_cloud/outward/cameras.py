"""What MQTT says of each edge: every answer, its state about once a second, whether it is connected. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gradfec_cloud.outward.condition import plain
from gradfec_cloud.outward.home_assistant import OF_EACH, device, label_entity, link_entity
from gradfec_cloud.outward.news import Answered, Linked, News
from gradfec_host.recent import Recent

MOST_CAMERAS = 256
DIGITS = 4  # of a score, as in records
STATE_EVERY_S = 1.0
ONLINE, OFFLINE = "online", "offline"
LONGEST_NAME = 48  # of a camera in a topic


class Message(NamedTuple):
    """An MQTT message, its payload text or what becomes JSON."""

    topic: str
    payload: object
    retain: bool = True


class Watched(NamedTuple):
    """A label that is watched for, and the score from which it counts."""

    label: str
    score: float

    @property
    def key(self) -> str:
        """Its name in states and identifiers."""
        return slug(plain(self.label).replace(" ", "_"))


class Camera:
    """What is known of one edge."""

    def __init__(self, edge: str, watched: Sequence[Watched]) -> None:
        self.edge, self.connected = edge, True
        self._watched = watched
        self._seen = dict.fromkeys((one.key for one in watched), False)
        self._line: tuple[str | None, float | None] = (None, None)
        self._outcomes: Counter[str] = Counter()
        self._recent = Recent()
        self._told_at = -math.inf
        self._is_news = False  # whether the state has anything new

    @property
    def has_answers(self) -> bool:
        """Whether it is a camera: `gradfec doctor` connects, too, and the broker does not hear of it."""
        return bool(self._outcomes)

    def answered(self, news: Answered, now: float) -> None:
        """Add an answer."""
        record: Mapping[str, Any] = news.record
        label, score = news.lines[0] if news.lines else (None, None)
        self._line = label, score if score is None else round(score, DIGITS)
        for one in self._watched:
            if any(plain(label) == plain(one.label) and score >= one.score for label, score in news.lines):
                self._seen[one.key] = True
        self._outcomes[record["outcome"]] += 1
        recovered = record["packets"]["recovered"]
        self._recent.add(now, record["datagrams"], recovered, record["latency_ms"], record["bytes"])
        self._is_news = True

    def is_due(self, now: float) -> bool:
        """Return whether to tell the state now."""
        return self._is_news and now >= self._told_at + STATE_EVERY_S

    def state(self, now: float) -> dict[str, object]:
        """Return the state: the newest answer's best line, what was seen since the last state, and how it goes."""
        seen, self._told_at = dict(self._seen), now
        self._seen = dict.fromkeys(seen, False)
        self._is_news = any(seen.values())  # that it is not seen any more
        loss, latency = self._recent.loss(now), self._recent.latency_ms(now)
        return {
            "label": self._line[0],
            "score": self._line[1],
            "seen": seen,
            "answers": sum(self._outcomes.values()),
            "partial": self._outcomes["partial"],
            "frames_per_s": round(self._recent.frames_per_s(now), 2),
            "loss_percent": None if loss is None else round(100 * loss, 2),
            "latency_ms": None if latency is None else round(latency, 1),
        }


class Cameras:
    """Turns news into messages below `prefix`, for as many edges as can be connected."""

    def __init__(self, prefix: str, discovery: str | None, watched: Sequence[Watched], version: str) -> None:
        """Announce cameras below the topic `discovery`, if there is one."""
        self._prefix, self._discovery, self._watched, self._version = prefix, discovery, watched, version
        self._cameras: OrderedDict[str, Camera] = OrderedDict()  # by name, the one that was heard last at the end

    @property
    def availability(self) -> str:
        """The topic that says whether the cloud is there."""
        return f"{self._prefix}/availability"

    @property
    def links(self) -> str:
        """The topics that say whether an edge is connected, for a subscription."""
        return f"{self._prefix}/+/link"

    def corrected(self, topic: str, payload: bytes) -> Message | None:
        """Return what to say instead of a link that the broker has kept; None if it is right.

        A cloud that was killed leaves its edges `online`.
        """
        here = {self._topic(camera, "link") for camera in self._cameras.values() if camera.connected}
        return Message(topic, OFFLINE) if payload == ONLINE.encode() and topic not in here else None

    def all_again(self, now: float) -> Iterator[Message]:
        """Yield all that a broker should keep: it may have forgotten it."""
        yield Message(self.availability, ONLINE)
        for camera in self._cameras.values():
            if camera.has_answers:
                yield from self._announce(camera)
                yield self._state(camera, now)

    def about(self, news: News, now: float) -> Iterator[Message]:
        """Yield the messages about news."""
        camera = self._cameras.setdefault(news.edge, Camera(news.edge, self._watched))
        self._cameras.move_to_end(news.edge)
        if len(self._cameras) > MOST_CAMERAS:
            self._cameras.popitem(last=False)
        if isinstance(news, Linked):
            camera.connected = news.connected
            if camera.has_answers:
                yield self._link(camera)
        else:
            first = not camera.has_answers
            camera.answered(news, now)  # before the broker may fail: then `all_again` announces it
            if first:
                yield from self._announce(camera)
            yield Message(self._topic(camera, "answer"), news.record, retain=False)
            if camera.is_due(now):
                yield self._state(camera, now)

    def due(self, now: float) -> list[Message]:
        """Return the states that are due now."""
        return [self._state(camera, now) for camera in self._cameras.values() if camera.is_due(now)]

    def _announce(self, camera: Camera) -> Iterator[Message]:
        if self._discovery:
            yield self._device(camera)
        yield self._link(camera)

    def _link(self, camera: Camera) -> Message:
        return Message(self._topic(camera, "link"), ONLINE if camera.connected else OFFLINE)

    def _state(self, camera: Camera, now: float) -> Message:
        return Message(self._topic(camera, "state"), camera.state(now))

    def _topic(self, camera: Camera, last: str) -> str:
        return f"{self._prefix}/{slug(camera.edge)}/{last}"

    def _device(self, camera: Camera) -> Message:
        number, link = slug(f"{self._prefix}_{camera.edge}"), self._topic(camera, "link")
        entities = (
            *OF_EACH,
            link_entity(self.availability, link, ONLINE, OFFLINE),
            *(label_entity(one.key, one.label) for one in self._watched),
        )
        where = [self.availability, link]
        payload = device(number, camera.edge, self._version, self._topic(camera, "state"), where, entities)
        return Message(f"{self._discovery}/device/{number}/config", payload)


def slug(name: str) -> str:
    """Return a name for topics and identifiers; where it differs, with a part of its hash, so that no two are alike."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST_NAME]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:6]}"
