"""What is fuzzed: each target takes any bytes, and raises where a promise is broken."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.world import registered

from . import (
    cloud_before,
    cloud_behind,
    codes,
    edge_before,
    edge_behind,
    handshake,
    inside,
    key_text,
    laplace,
    messages,
    pictures,
    quantisers,
    reassembly,
    seal,
    sketches,
    sort_batch,
    symbols,
)

Target = Callable[[bytes], None]


def with_toys(target: Target) -> Target:
    """Let a target meet a stranger's quantiser."""

    def run(data: bytes) -> None:
        with registered():
            target(data)

    return run


TARGETS: dict[str, Target] = {
    module.__name__.rpartition(".")[2]: with_toys(module.target)
    for module in (
        sort_batch,
        messages,
        symbols,
        inside,
        reassembly,
        quantisers,
        laplace,
        pictures,
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
