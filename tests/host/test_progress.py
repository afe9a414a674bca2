"""The line a minute that says how it goes."""

from __future__ import annotations

import asyncio

import pytest

from gradfec_host import progress as progress_module
from gradfec_host.progress import Progress, in_words, live_or_told

HALF = {"sent": 10, "lost": 5}
UNKNOWN = {"sent": 10, "lost": None}


def test_a_minute_is_told_by_name_and_in_words_and_then_begins_anew() -> None:
    progress = Progress()
    for outcome, datagrams, latency_ms, expected in (
        ("complete", {"sent": 10, "lost": 0}, 100.0, 0.9),
        ("partial", HALF, 300.0, 0.7),
        ("complete", HALF, 200.0, None),
        ("timeout", UNKNOWN, None, None),
    ):
        progress.add(outcome, datagrams, latency_ms, 15_000, expected)
    told = progress.told()
    assert told == {
        "frames": 4,
        "answered": 3,
        "partial": 0.3333,
        "expected": 0.8,
        "loss": 0.3333,
        "kbit_s": 8.0,
        "latency_ms": 200.0,
    }
    assert in_words(told) == (
        "3 of 4 frames answered, 33.3 % of them partial, 80.0 % expected to agree, loss 33.3 %, 8 kbit/s, "
        "200 ms (median)"
    )
    assert in_words(progress.told()) == "0 of 0 frames answered"


@pytest.mark.parametrize("live", [True, False])
def test_it_is_told_only_where_no_live_status_is_shown(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "EVERY_S", 0.001)
    told: list[str] = []

    class Live:
        def __init__(self, render: object) -> None:
            assert render is draw

        def __enter__(self) -> bool:
            return live

        def __exit__(self, *error: object) -> None:
            pass

    def draw(lines: int) -> str:
        return ""

    monkeypatch.setattr(progress_module, "live_status", Live)

    async def run() -> int:
        async with live_or_told(draw, [lambda: told.append("door"), lambda: told.append("yard")]):
            await asyncio.sleep(0.05)
        count = len(told)
        await asyncio.sleep(0.01)
        return count

    assert asyncio.run(run()) == len(told)  # and no more once it has ended
    assert set(told) == (set() if live else {"door", "yard"})
    assert live or len(told) >= 4
