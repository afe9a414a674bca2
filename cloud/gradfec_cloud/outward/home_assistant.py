"""A camera as a device of Home Assistant: www.home-assistant.io/integrations/mqtt, device discovery. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Entity(NamedTuple):
    """An entity of a device: `template` says what it shows of the camera's state."""

    key: str
    platform: str
    name: str
    template: str
    more: Mapping[str, object] = {}


DIAGNOSTIC = {"entity_category": "diagnostic"}
MEASURED = {**DIAGNOSTIC, "state_class": "measurement"}
OF_EACH = (
    Entity("answer", "sensor", "Answer", "value_json.label", {"icon": "mdi:eye"}),
    Entity(
        *("latency", "sensor", "Latency", "value_json.latency_ms"),
        {**MEASURED, "device_class": "duration", "unit_of_measurement": "ms"},
    ),
    Entity(
        *("loss", "sensor", "Loss", "value_json.loss_percent"),
        {**MEASURED, "unit_of_measurement": "%", "icon": "mdi:wifi-alert"},
    ),
    Entity(*("answers", "sensor", "Answers", "value_json.answers"), {**DIAGNOSTIC, "state_class": "total_increasing"}),
)


def link_entity(cloud: str, link: str, online: str, offline: str) -> Entity:
    """Return the entity that shows whether a camera is connected, which is known as long as the cloud is there."""
    more = {
        **DIAGNOSTIC,
        "device_class": "connectivity",
        "state_topic": link,
        "payload_on": online,
        "payload_off": offline,
        "availability": [{"topic": cloud}],
    }
    return Entity("link", "binary_sensor", "Link", "value", more)


def label_entity(key: str, label: str) -> Entity:
    """Return the entity that shows whether a label is seen."""
    template = f"'ON' if value_json.seen['{key}'] else 'OFF'"
    return Entity(f"label_{key}", "binary_sensor", label.replace("_", " "), template)


def device(
    number: str, name: str, version: str, state: str, availability: Iterable[str], entities: Iterable[Entity]
) -> dict[str, object]:
    """Return the payload that announces a device, whose entities show its topic `state`.

    It is available while all topics `availability` say `online`.
    """
    return {
        "device": {
            "identifiers": [number],
            "name": name,
            "manufacturer": "gradfec",
            "model": "edge",
            "sw_version": version,
        },
        "origin": {"name": "gradfec", "sw_version": version},
        "availability": [{"topic": topic} for topic in availability],
        "availability_mode": "all",
        "state_topic": state,
        "components": {
            one.key: {
                "platform": one.platform,
                "unique_id": f"{number}_{one.key}",
                "name": one.name,
                "value_template": f"{{{{ {one.template} }}}}",
                **one.more,
            }
            for one in entities
        },
    }
