"""A frame that is looked at twice: one answer, one record and one slot, in whatever order things happen."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.common.answers import HEAD, TIGER_CAT
from tests.edge.outgoing import encoded_frame, frame

from gradfec_common.heads import Answer, Classes
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Report, Result
from gradfec_edge.frames import Frame
from gradfec_edge.journal import Journal
from gradfec_edge.metrics import EdgeMetrics
from gradfec_edge.pipeline import Stages
from gradfec_edge.slots import Outgoing, Slots
from gradfec_edge.story import Record, Story
from gradfec_host.results import ResultsFile

TABBY = Classes(((281, "tabby", 0.91),))
GREY = Classes(((905, "window shade", 0.33),))  # what the network sees in a picture that is not whole
PACKETS = DATAGRAMS = 12  # of each look
RESULT = Result(0, "complete", [], 0, 0, {"decode": 1.0})


def answers(tensor: int, answer: Answer, outcome: str = "complete") -> Answered:
    return Answered(tensor, replace(RESULT, tensor=tensor, outcome=outcome), answer)


def ends(tensor: int, outcome: str | None = "complete", received: int | None = DATAGRAMS) -> Closed:
    result = replace(RESULT, tensor=tensor, outcome=outcome) if outcome else None
    report = None if received is None else Report(tensor, DATAGRAMS, received, 0)
    return Closed(tensor, result, report, DATAGRAMS)


class World:
    """Slots, a journal behind them, and what is told and written."""

    def __init__(self, slots: int = 1, results: ResultsFile | None = None) -> None:
        self.records: list[Record] = []
        self.stories: list[Story] = []
        self.answers: list[tuple[int, Answer | None]] = []
        self.frames: dict[int, Frame] = {}  # by tensor
        self.moments: list[float] = []  # of the records
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, dict, insecure=False).camera("door")
        self.journal = Journal(results, HEAD, self._on_story, clock=self._clock, on_answer=self._on_answer)
        self.slots = Slots(slots, self.journal, metrics)
        for _ in range(slots):
            asyncio.run(self.slots.take())

    def _on_story(self, story: Story) -> None:
        self.records.append(story.record())
        self.stories.append(story)

    def _clock(self, at: float) -> float:
        self.moments.append(at)
        return 1767323045.678

    def _on_answer(self, of: Frame, answer: Answer | None) -> None:
        self.answers.append((of.number, answer))

    @property
    def free(self) -> int:
        return self.slots._free._value

    def sends(self, tensor: int, first: int | None = None, number: int = 0) -> None:
        """Send a frame's features, or its picture."""
        of = self.frames[tensor] = frame(number) if first is None else self.frames[first]
        look = encoded_frame() if first is None else replace(encoded_frame(), codec="avif", split="input_layer")
        self.slots.sent(7, tensor, Outgoing(of, look, Stages(encode=1.0), time.perf_counter(), first), {})

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"gradfec_edge_{name}", {"camera": "door", **labels})


Step = Callable[[World], object]
STEPS: dict[str, Step] = {
    "answered unsure": lambda world: world.slots.answered(answers(0, TIGER_CAT), unsure=True),
    "closed": lambda world: world.slots.closed(ends(0)),
    "sent again": lambda world: world.sends(1, 0),
    "no look": lambda world: world.slots.no_look(0),
    "answered again": lambda world: world.slots.answered(answers(1, TABBY)),
    "answered in part": lambda world: world.slots.answered(answers(1, GREY, "partial")),
    "closed again": lambda world: world.slots.closed(ends(1)),
    "closed again in part": lambda world: world.slots.closed(ends(1, "partial", 7)),
    "given up": lambda world: world.slots.closed(ends(1, None, None)),
    "end": lambda world: world.slots.end(),
}
FREES = {"answered again", "answered in part", "given up", "no look"}  # of the steps, those that free the slot
SECOND = {  # what may become of the second look, and whose answer stands then
    "the second answer": (("sent again", "answered again", "closed again"), TABBY),
    "a part of the picture": (("sent again", "answered in part", "closed again in part"), TIGER_CAT),
    "no second answer": (("sent again", "given up"), TIGER_CAT),
    "no second look": (("no look",), TIGER_CAT),
}


def orders(of: Sequence[str]) -> list[tuple[str, ...]]:
    """The orders in which the first tensor may be closed among what happens to the second one."""
    return [("answered unsure", *of[:at], "closed", *of[at:]) for at in range(len(of) + 1)]


ORDERS = [pytest.param(order, stands, id=", ".join(order)) for of, stands in SECOND.values() for order in orders(of)]


@pytest.mark.parametrize(("order", "stands"), ORDERS)
def test_a_frame_has_one_answer_one_record_and_one_slot_in_any_order(order: tuple[str, ...], stands: Classes) -> None:
    world = World()
    world.sends(0)
    for at, name in enumerate(order):
        assert world.records == [], "its story is not over yet"
        before, told = world.free, len(world.answers)
        STEPS[name](world)
        assert world.free - before == (name in FREES)
        if name in ("answered again", "answered in part", "no look"):
            assert len(world.answers) == told + 1, "whoever asks has waited for this"
        assert (len(world.answers) == 0) or (at > 0 and world.answers == [(0, stands)])
    assert world.free == 1
    assert world.answers == [(0, stands)]
    (record,) = world.records
    assert record["top5"] == stands.record()["top5"]
    assert (record["outcome"], record["frame"]) == ("complete", 0)
    assert world.journal.outcomes == {"complete": 1}
    assert not world.journal._sent and not world.journal._unsure
    assert world.value("frames_total", outcome="complete") == 1
    world.slots.end()
    assert len(world.records) == len(world.answers) == 1


@pytest.mark.parametrize(
    ("of", "second", "becomes"),
    [
        ("the second answer", ("complete", "tabby", 0.91), "changed"),
        ("a part of the picture", ("partial", None, None), "unanswered"),
        ("no second answer", ("timeout", None, None), "unanswered"),
    ],
)
def test_the_record_has_both_looks_and_the_bytes_and_datagrams_of_both(
    of: str, second: tuple[str, str | None, float | None], becomes: str
) -> None:
    world = World()
    world.sends(0)
    for name in ("answered unsure", "closed", *SECOND[of][0]):
        STEPS[name](world)
    (record,), (story,) = world.records, world.stories
    one, two = record["looks"]  # type: ignore[misc]
    size = DATAGRAMS * encoded_frame().datagram_bytes
    assert [*one] == [*two] == ["tensor", "outcome", "label", "score", "codec", "bytes", "latency_ms"]
    assert [*one.values()][:-1] == [0, "complete", "tiger cat", 0.5, "uniform8", size]
    assert [*two.values()][:-1] == [1, *second, "avif", size]
    assert one["latency_ms"] > 0 and (two["latency_ms"] is None) == (second[0] == "timeout")
    stands = two if becomes == "changed" else one
    assert [record[name] for name in ("tensor", "codec", "latency_ms")] == [
        stands[name] for name in ("tensor", "codec", "latency_ms")
    ]
    assert record["split"] == ("input_layer" if becomes == "changed" else "conv")
    received = {"complete": 2 * DATAGRAMS, "partial": DATAGRAMS + 7, "timeout": None}[second[0]]
    assert record["bytes"] == 2 * size
    assert record["datagrams"] == {
        "sent": 2 * DATAGRAMS,
        "parity": 0,
        "received": received,
        "lost": None if received is None else 2 * DATAGRAMS - received,
        "asked": 0,
    }
    assert record["packets"] == {"total": PACKETS, "dropped_by_plan": 0, "recovered": 0, "missing": 0}
    assert world.journal.packets == {"total": 2 * PACKETS, "dropped_by_plan": 0, "recovered": 0, "missing": 0}
    assert world.journal.datagrams["sent"] == 2 * DATAGRAMS
    assert world.journal.second_looks == {becomes: 1}
    assert world.value("second_looks_total", answer=becomes) == 1
    assert world.value("tensor_datagrams_total", fate="unknown" if received is None else "received") == (
        2 * DATAGRAMS if received is None else received
    )
    unanswered = second[0] == "timeout"
    fates = {fate: world.value("packets_total", fate=fate) for fate in ("arrived", "unknown")}
    assert fates == {"arrived": PACKETS * (2 - unanswered), "unknown": PACKETS * unanswered}
    assert (story.looks[0].answer, story.second_look) == (TIGER_CAT, becomes)


def test_a_second_answer_that_is_the_same_confirms_the_first() -> None:
    world = World()
    world.sends(0)
    for name in ("answered unsure", "closed", "sent again"):
        STEPS[name](world)
    world.slots.answered(answers(1, Classes(((282, "tiger cat", 0.99),))))
    world.slots.closed(ends(1))
    assert world.journal.second_looks == {"confirmed": 1}
    assert world.records[0]["tensor"] == 1


@pytest.mark.parametrize("of", ["no second look", "end"])
def test_a_frame_that_gets_no_second_look_after_all_has_the_record_of_any_other(of: str) -> None:
    world = World()
    world.sends(0)
    for name in ("answered unsure", "closed", *(("end",) if of == "end" else SECOND[of][0])):
        STEPS[name](world)
    assert world.answers == [(0, TIGER_CAT)]
    (record,) = world.records
    assert "looks" not in record
    assert record["bytes"] == DATAGRAMS * encoded_frame().datagram_bytes
    assert world.journal.packets["total"] == PACKETS
    assert world.journal.second_looks == {}
    assert world.value("frames_total", outcome="complete") == 1


def test_when_there_will_be_no_second_look_the_story_is_returned_once_it_is_over() -> None:
    world = World(2)
    for tensor in (0, 1):
        world.sends(tensor, number=tensor)
        world.slots.answered(answers(tensor, TIGER_CAT), unsure=True)
    world.slots.closed(ends(0))
    assert world.slots.no_look(0) is world.stories[0]
    assert world.slots.no_look(1) is None
    assert world.slots.closed(ends(1)) is world.stories[1]


def test_the_story_that_is_returned_is_that_of_the_look_whose_answer_stands() -> None:
    for of, tensor in (("the second answer", 1), ("a part of the picture", 0), ("no second answer", 0)):
        world = World()
        world.sends(0)
        *before, last = ("answered unsure", "closed", *SECOND[of][0])
        for name in before:
            assert STEPS[name](world) is None
        story: Any = STEPS[last](world)
        assert story is world.stories[0] and story.as_sent.tensor == tensor


def test_at_the_end_every_frame_that_awaits_a_second_look_is_recorded() -> None:
    world = World(3)
    for tensor in range(3):
        world.sends(tensor, number=tensor)
        world.slots.answered(answers(tensor, TIGER_CAT), unsure=True)
        world.slots.closed(ends(tensor))
    assert world.records == []
    world.slots.end()
    assert [record["frame"] for record in world.records] == [0, 1, 2]
    assert world.answers == [(number, TIGER_CAT) for number in range(3)]


def test_the_record_is_written_once_and_its_time_is_that_of_the_answer_that_stands(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path) as file:
        for of, (steps, stands) in SECOND.items():
            world, after = World(results=file), dict[str, float]()
            world.sends(0)
            for name in ("answered unsure", "closed", *steps):
                time.sleep(0.001)
                after[name] = time.monotonic()
                STEPS[name](world)
            (moment,) = world.moments
            second = of == "the second answer"
            assert (stands is TABBY) == second
            assert after["answered again" if second else "answered unsure"] <= moment
            assert moment <= after["closed again" if second else "closed"]
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["looks" in record for record in written] == [True, True, True, False]


SCRIPTS: list[tuple[Callable[[int], list[Step]], Answer | None]] = [
    (lambda n: [lambda w: w.slots.answered(answers(n, TABBY)), lambda w: w.slots.closed(ends(n))], TABBY),
    (lambda n: [lambda w: w.slots.closed(ends(n, None))], None),
    (lambda n: [lambda w: w.sends(n + 500, n), *second(n + 500, "complete")], TABBY),
    (lambda n: [lambda w: w.sends(n + 500, n), *second(n + 500, "partial")], TIGER_CAT),
    (lambda n: [lambda w: w.sends(n + 500, n), lambda w: w.slots.closed(ends(n + 500, None))], TIGER_CAT),
    (lambda n: [lambda w: w.slots.no_look(n)], TIGER_CAT),
    (lambda n: [], TIGER_CAT),  # the end comes first
]


def second(tensor: int, outcome: str) -> list[Step]:
    answer = TABBY if outcome == "complete" else GREY
    return [
        lambda world: world.slots.answered(answers(tensor, answer, outcome)),
        lambda world: world.slots.closed(ends(tensor, outcome)),
    ]


def unsure(tensor: int) -> Step:
    return lambda world: world.slots.answered(answers(tensor, TIGER_CAT), unsure=True)


def closes(tensor: int) -> Step:
    return lambda world: world.slots.closed(ends(tensor))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_becomes_of_many_frames_at_once_nothing_of_them_is_mixed_up_or_lost(seed: int) -> None:
    rng, count = np.random.default_rng(seed), 40
    world, scripts, expected = World(count), list[list[Step]](), dict[int, Answer | None]()
    left_to_the_end = 0
    for number in range(count):
        kind = int(rng.integers(len(SCRIPTS)))
        of, expected[number] = SCRIPTS[kind]
        script = of(number)
        if kind >= 2:
            at = int(rng.integers(len(script) + 1))
            script = [unsure(number), *script[:at], closes(number), *script[at:]]
        left_to_the_end += kind == len(SCRIPTS) - 1
        scripts.append(script)
        world.sends(number, number=number)
    turns = rng.permutation(list(itertools.chain(*([number] * len(script) for number, script in enumerate(scripts)))))
    for number in turns.tolist():
        scripts[number].pop(0)(world)
    assert world.free == count - left_to_the_end
    world.slots.end()
    assert sorted(record["frame"] for record in world.records) == [*range(count)]  # type: ignore[type-var]
    assert len(world.answers) == count and dict(world.answers) == expected
    for record in world.records:
        answer = expected[int(str(record["frame"]))]
        assert record["top5"] == (answer.record()["top5"] if answer else [])
    assert sum(world.journal.outcomes.values()) == count
    assert world.journal.packets["total"] == PACKETS * (count + sum("looks" in record for record in world.records))
    assert not world.journal._sent and not world.journal._unsure
