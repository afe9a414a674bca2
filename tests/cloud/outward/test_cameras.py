"""What MQTT says of cameras: their topics, their state about once a second, and their devices in Home Assistant."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import jsonschema
import pytest
from tests.cloud.outward.home_assistant import DEVICE, DISCOVERY_TOPIC

from gradfec_cloud.outward.cameras import LONGEST_NAME, MOST_CAMERAS, Cameras, Message, Watched, slug
from gradfec_cloud.outward.news import Answered, Linked, News

NAMES = ["door", "front door", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "a/b/#", "+", "$SYS", "x" * 200, "\udce9", " "]
WATCHED = (Watched("person", 0.5), Watched("Traffic light", 0.8))


def answered(
    label: str = "dog", score: float = 0.9, edge: str = "door", outcome: str = "complete", **more: Any
) -> Answered:
    record = {
        "edge": edge,
        "outcome": outcome,
        "packets": {"total": 10, "recovered": 1, "missing": 0},
        "datagrams": {"sent": 10, "parity": 2, "received": 9, "lost": 1},
        "bytes": 4000,
        "latency_ms": 80.0,
        **more,
    }
    return Answered(edge, record, [(label, score), ("cat", 0.05)])


def cameras(discovery: str | None = None, watched: tuple[Watched, ...] = ()) -> Cameras:
    return Cameras("gradfec", discovery, watched, "1.0")


def said(of: Cameras, news: News, now: float = 0.0) -> list[Message]:
    return [*of.about(news, now)]


def test_each_answer_is_its_record_and_the_broker_does_not_keep_it() -> None:
    of = cameras()
    said(of, Linked("door", True))
    messages = said(of, answered())
    assert messages[1] == Message("gradfec/door/answer", answered().record, retain=False)


def test_whether_an_edge_is_connected_is_kept() -> None:
    of = cameras()
    assert said(of, answered())[0] == Message("gradfec/door/link", "online", retain=True)
    assert said(of, Linked("door", False)) == [Message("gradfec/door/link", "offline", retain=True)]
    assert said(of, Linked("door", True)) == [Message("gradfec/door/link", "online", retain=True)]


def test_a_visitor_that_sends_no_frame_leaves_nothing_at_the_broker() -> None:
    of = cameras("homeassistant")
    assert said(of, Linked("gradfec doctor", True)) == said(of, Linked("gradfec doctor", False)) == []
    assert [message.topic for message in of.all_again(0.0)] == ["gradfec/availability"]


def test_a_camera_that_left_before_its_first_answer_is_told_is_announced_as_offline() -> None:
    of = cameras()
    said(of, Linked("door", False))  # overtakes answers
    assert said(of, answered())[0] == Message("gradfec/door/link", "offline", retain=True)


def states(messages: list[Message]) -> list[Any]:
    return [message.payload for message in messages if message.topic.endswith("/state")]


def test_the_state_is_told_about_once_a_second_with_what_was_counted() -> None:
    of, told = cameras(), []
    for tenth in range(21):
        outcome = "partial" if tenth % 2 else "complete"
        told += states(said(of, answered(score=0.39867284893989563, outcome=outcome), now=tenth / 10))
    assert [state["answers"] for state in told] == [1, 11, 21]
    assert told[-1] == {
        "label": "dog", "score": 0.3987, "seen": {}, "answers": 21, "partial": 10,
        "frames_per_s": 10.5, "loss_percent": 10.0, "latency_ms": 80.0,
    }  # fmt: skip


def test_what_came_after_the_last_state_is_told_without_another_answer_and_only_once() -> None:
    of = cameras(watched=WATCHED)
    said(of, answered(), now=0.0)
    said(of, answered("person"), now=0.5)
    assert of.due(0.9) == []
    (state,) = states(of.due(1.0))
    assert (state["label"], state["seen"]["person"], state["answers"]) == ("person", True, 2)
    assert of.due(1.9) == []
    (state,) = states(of.due(2.0))
    assert (state["label"], state["seen"]["person"]) == ("person", False)  # no answer has had it since
    assert of.due(3.0) == []


def test_a_label_that_was_seen_between_two_states_is_in_the_next_one() -> None:
    of = cameras(watched=WATCHED)
    said(of, answered(), now=0.0)
    said(of, answered("person", 0.6), now=0.1)
    said(of, answered("traffic_light", 0.79), now=0.2)
    (state,) = states(said(of, answered(), now=1.0))
    assert state["seen"] == {"person": True, "traffic_light": False}
    (state,) = states(said(of, answered("traffic_light", 0.8), now=2.0))
    assert state["seen"] == {"person": False, "traffic_light": True}


def test_an_answer_without_lines_has_a_state_without_label() -> None:
    (state,) = states(said(cameras(), Answered("door", answered().record, [])))
    assert (state["label"], state["score"]) == (None, None)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_makes_topics_and_a_device_that_home_assistant_accepts(name: str) -> None:
    announced, link, *_ = said(cameras("homeassistant", WATCHED), answered(edge=name))
    assert re.fullmatch(DISCOVERY_TOPIC, announced.topic)
    jsonschema.validate(announced.payload, DEVICE)
    assert re.fullmatch(r"gradfec/[\w-]+/link", link.topic, re.ASCII)
    assert announced.retain


def test_no_two_names_share_topics() -> None:
    names = [*NAMES, "front_door", "x" * LONGEST_NAME, "x" * (LONGEST_NAME + 1)]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("door") == "door"


def shown(entity: Any, value: str, value_json: Any) -> str:
    """Return what an entity shows, as Home Assistant evaluates its template."""
    return jinja2.Template(entity["value_template"]).render(value=value, value_json=value_json)


def test_its_entities_show_what_the_topics_say() -> None:
    of = cameras("homeassistant", WATCHED)
    announced, *messages = said(of, answered("person"))
    (state,) = states(messages)
    assert isinstance(announced.payload, dict)
    entities = announced.payload["components"]
    assert {key: shown(entity, "online", state) for key, entity in entities.items()} == {
        "answer": "person",
        "latency": "80.0",
        "loss": "10.0",
        "answers": "1",
        "link": "online",
        "label_person": "ON",
        "label_traffic_light": "OFF",
    }
    assert announced.payload["state_topic"] == "gradfec/door/state"
    assert [where["topic"] for where in announced.payload["availability"]] == [
        "gradfec/availability",
        "gradfec/door/link",
    ]
    assert entities["link"]["availability"] == [{"topic": "gradfec/availability"}]
    unique = [entity["unique_id"] for entity in entities.values()]
    assert len({*unique}) == len(unique)


def test_a_broker_that_has_forgotten_everything_is_told_again() -> None:
    of = cameras("homeassistant")
    said(of, answered())
    said(of, answered(edge="yard"))
    said(of, Linked("yard", False))
    topics = {message.topic: message for message in of.all_again(5.0)}
    assert [*topics] == [
        "gradfec/availability",
        "homeassistant/device/gradfec_door/config",
        "gradfec/door/link",
        "gradfec/door/state",
        "homeassistant/device/gradfec_yard/config",
        "gradfec/yard/link",
        "gradfec/yard/state",
    ]
    assert all(message.retain for message in topics.values())
    assert topics["gradfec/availability"].payload == "online"
    assert topics["gradfec/yard/link"].payload == "offline"


def test_a_link_that_a_killed_cloud_has_left_online_is_corrected() -> None:
    of = cameras()
    said(of, answered())
    said(of, answered(edge="yard"))
    said(of, Linked("yard", False))
    assert of.corrected("gradfec/door/link", b"online") is None
    assert of.corrected("gradfec/gate/link", b"offline") is None
    for name in ("yard", "gate"):
        assert of.corrected(f"gradfec/{name}/link", b"online") == Message(f"gradfec/{name}/link", "offline")


def test_edges_that_choose_ever_new_names_do_not_fill_the_memory() -> None:
    of = cameras()
    for number in range(MOST_CAMERAS + 5):
        said(of, answered(edge=f"edge{number}"))
    links = [message.topic for message in of.all_again(0.0) if message.topic.endswith("link")]
    assert links == [f"gradfec/edge{number}/link" for number in range(5, MOST_CAMERAS + 5)]
