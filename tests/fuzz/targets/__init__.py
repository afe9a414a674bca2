"""What is fuzzed: each target takes any bytes, and raises where a promise is broken."""

from __future__ import annotations

from collections.abc import Callable

from . import (
    cloud_before,
    cloud_behind,
    codes,
    edge_before,
    edge_behind,
    handshake,
    key_text,
    messages,
    seal,
    sketches,
    sort_batch,
    symbols,
)

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {
    module.__name__.rpartition(".")[2]: module.target
    for module in (
        sort_batch,
        messages,
        symbols,
        codes,
        handshake,
        seal,
        sketches,
        cloud_before,
        cloud_behind,
        edge_before,
        edge_behind,
        key_text,
    )
}
