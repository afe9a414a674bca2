"""The keys in force: read at the start, and again on request."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.exported import Cloud

from gradfec_cloud.access import by_id
from gradfec_cloud.keyring import Keyring
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, INSECURE_WARNING, Key
from gradfec_common.session.greeter import Keys
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.logs import Log

KEY = HandshakeKey(Key(bytes(range(32))))


def keyring(read: Callable[[], Keys]) -> tuple[Keyring, Callable[[str], float | None]]:
    """Return a keyring, and what tells how many readings had an outcome."""
    cloud = Cloud()
    name = "gradfec_cloud_key_readings_total"
    return (
        Keyring(read, cloud.metrics, Log("gradfec-cloud")),
        lambda outcome: cloud.registry.get_sample_value(name, {"outcome": outcome}),
    )


def test_each_reading_replaces_the_keys_and_whether_everybody_is_admitted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    everybody = HandshakeKey(INSECURE_KEY, "anybody")
    readings = [by_id(KEY), by_id(KEY, everybody), by_id(KEY)]
    keys, count = keyring(lambda: readings.pop(0))
    for number, insecure in ((2, True), (1, False)):
        assert keys.read_again()
        assert (len(keys.keys), keys.insecure) == (number, insecure)
    assert caplog.messages == ["read again: 2 keys", INSECURE_WARNING, "read again: 1 key"]
    assert count("read") == 2


def test_a_reading_that_fails_is_counted_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    given = [by_id(KEY)]

    def read() -> Keys:
        if not given:
            raise GradfecError("there is no folder keys")
        return given.pop()

    keys, count = keyring(read)
    assert not keys.read_again()
    assert count("refused") == 1
    assert keys.keys == by_id(KEY)
    assert caplog.messages == ["there is no folder keys; the keys stay as they were"]


def test_keys_that_cannot_be_read_at_the_start_are_an_error() -> None:
    def read() -> Keys:
        raise GradfecError("there is no folder keys")

    with pytest.raises(GradfecError, match="no folder"):
        keyring(read)
