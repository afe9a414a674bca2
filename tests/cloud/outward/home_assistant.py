"""What Home Assistant accepts as a device: written from the page on its MQTT integration, and its own schemas there.

homeassistant/components/mqtt/schemas.py, sensor.py and binary_sensor.py check it when a message comes.
"""

from __future__ import annotations

from typing import Any

TOPIC = {"type": "string", "minLength": 1, "pattern": r"^[^#+\u0000]+$"}
TEXT = {"type": "string", "minLength": 1}
TEMPLATE = {"type": "string", "pattern": r"^\{\{ .+ \}\}$"}
AVAILABILITY = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["topic"],
        "properties": {
            "topic": TOPIC,
            "payload_available": TEXT,
            "payload_not_available": TEXT,
            "value_template": TEMPLATE,
        },
        "additionalProperties": False,
    },
}
OF_ALL: dict[str, Any] = {
    "platform": {"enum": ["sensor", "binary_sensor"]},
    "unique_id": TEXT,
    "name": TEXT,
    "value_template": TEMPLATE,
    "state_topic": TOPIC,
    "icon": {"type": "string", "pattern": "^mdi:[a-z-]+$"},
    "entity_category": {"enum": ["config", "diagnostic"]},
    "availability": AVAILABILITY,
}
SENSOR = {
    **OF_ALL,
    "device_class": {"enum": ["duration", "data_rate", "data_size", "signal_strength", "timestamp", "enum"]},
    "state_class": {"enum": ["measurement", "total", "total_increasing"]},
    "unit_of_measurement": TEXT,
}
BINARY_SENSOR = {
    **OF_ALL,
    "device_class": {"enum": ["connectivity", "motion", "occupancy", "presence", "problem"]},
    "payload_on": TEXT,
    "payload_off": TEXT,
}


def entity(properties: dict[str, Any]) -> dict[str, Any]:
    required = ["platform", "unique_id", "name"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


DEVICE: dict[str, Any] = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version", "hw_version", "serial_number"), TEXT),
            },
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": TEXT, "sw_version": TEXT, "support_url": TEXT},
        },
        "availability": AVAILABILITY,
        "availability_mode": {"enum": ["all", "any", "latest"]},
        "state_topic": TOPIC,
        "qos": {"enum": [0, 1, 2]},
        "encoding": TEXT,
        "components": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z0-9_-]+$"},
            "additionalProperties": {
                "oneOf": [
                    {"allOf": [entity(properties), {"properties": {"platform": {"const": platform}}}]}
                    for platform, properties in (("sensor", SENSOR), ("binary_sensor", BINARY_SENSOR))
                ]
            },
        },
    },
}
DISCOVERY_TOPIC = r"homeassistant/device/[a-zA-Z0-9_-]+/config"
