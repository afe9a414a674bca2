"""Sinks, which bring answers to other people's systems. Each is one small file here and one line in SINKS.

`sink` has the interface. Each sink has an outbox of bounded size. All sinks run on one separate thread, so that nothing
that happens to them holds up an answer.
"""

from __future__ import annotations

from gradfec_cloud.options import Given
from gradfec_cloud.outward.mqtt import MQTT
from gradfec_cloud.outward.sink import Labels, Sink, SinkKind
from gradfec_cloud.outward.webhook import WEBHOOK

SINKS: dict[str, SinkKind] = {kind.name: kind for kind in (MQTT, WEBHOOK)}


def open_sinks(given: Given, labels: Labels) -> dict[str, Sink]:
    """Return the sinks that the options ask for, by name; UsageError if they are wrong."""
    opened = {name: kind.open(given, labels) for name, kind in SINKS.items()}
    return {name: sink for name, sink in opened.items() if sink is not None}
