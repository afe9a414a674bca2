"""The engine asks what the product would deliver, each thing once, and in full batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gradfec_common.delivery import packets_at_hand
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import BareDrop, UnequalProtection
from gradfec_common.reassembly import Reassembly, decode_tensor
from gradfec_common.transmit import encode_tensor
from gradfec_edge.compensation import compensated
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.engine import BATCH, REFERENCE, Case, Delivered, Engine, Subject, delivered, nothing_at_hand
from gradfec_lab.sweep.store import Record, Store

from .toys import ToyModel, ToyScores, write_images

GRID = PacketGrid((14, 4, 6), 7)  # 12 packets
SPLIT = Cut(RESNET50, 900, "a_small_one", (14, 4, 6))
MEANS = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("fill", [0.0, MEANS], ids=["zero", "mean"])
def test_delivered_features_are_those_that_the_cloud_decodes(fill: object) -> None:
    rng = np.random.default_rng(3)
    chi = rng.normal(size=GRID.shape).astype(np.float32)
    plan = UnequalProtection(50).plan(rng.random(GRID.count).astype(np.float32))
    tensor = encode_tensor(chi, plan, GRID, SPLIT)
    arrived = rng.random(plan.sent) < 0.45  # fewer than the 6 that would decode the block
    assert 0 < arrived.sum() < 6
    reassembly = Reassembly(tensor.headers[0], GRID)
    reassembly.add(tensor.headers[arrived], tensor.symbols[arrived])
    at_hand = packets_at_hand(plan, arrived)
    decoded = decode_tensor(reassembly, fill)  # type: ignore[arg-type]
    np.testing.assert_array_equal(Delivered(lambda: chi, GRID)(at_hand, fill), decoded.chi)  # type: ignore[arg-type]


def test_what_a_plan_compensates_for_is_told_apart_from_what_is_sent_as_it_is() -> None:
    rng = np.random.default_rng(4)
    chi = rng.random(GRID.shape).astype(np.float32)
    form = np.cov(rng.normal(size=(2, 6, 20)).reshape(12, 20))
    damages = {"proxy": np.stack([form[:6, :6], form[6:, 6:]]).astype(np.float32)}
    sent = delivered(Subject("cat", chi, {}, damages), GRID)
    scores = rng.random(GRID.count).astype(np.float32)
    everything, half, third = (BareDrop(percent).plan(scores) for percent in (0, 50, 33))
    cases = [
        sent(estimator, plan).case("p", 0, packets_at_hand(plan, np.ones(plan.sent, bool)), "zero", 0.0)
        for estimator, plan in (("proxy", half), ("static", half), ("proxy", third), ("proxy", everything))
    ]
    assert len({case.pattern for case in cases}) == 4
    scaled = Delivered(lambda: compensated(chi, damages["proxy"], half.dropped, GRID), GRID)
    there = packets_at_hand(half, np.ones(half.sent, bool))
    np.testing.assert_array_equal(cases[0].features(), scaled(there, 0.0))
    np.testing.assert_array_equal(cases[1].features(), Delivered(lambda: chi, GRID)(there, 0.0))
    assert not np.array_equal(cases[0].features(), cases[1].features())
    nothing = sent("proxy", half).case("p", 0, np.zeros(GRID.count, bool), "zero", 0.0)
    assert nothing.pattern == nothing_at_hand(GRID, "zero")
    same = sent("static", everything).case("p", 0, np.ones(GRID.count, bool), "zero", 0.0)
    assert cases[3].pattern == same.pattern  # nothing is dropped, nothing compensated for


def at_hand(*missing: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """All packets but these."""
    there = np.ones(GRID.count, bool)
    there[[*missing]] = False
    return there


def cases(subject: Subject) -> Iterator[Case]:
    delivered = Delivered(lambda: subject.chi, GRID)
    for number, missing in enumerate([(), (1,), (1,), (2, 3), range(GRID.count)]):
        yield delivered.case(f"p{number}", 0, at_hand(*missing), "zero", 0.0)
    yield delivered.case("two", 0, at_hand(4), "zero", 0.0)
    yield delivered.case("two", 1, at_hand(), "zero", 0.0)
    yield delivered.case("mean", 0, at_hand(1), "mean", MEANS)
    yield delivered.case("whole, mean", 0, at_hand(), "mean", MEANS)


def run(folder: Path, count: int, store: Store, constant: Iterable[bytes] = ()) -> tuple[ToyModel, ToyScores, float]:
    names = write_images(folder, count)
    model, scores = ToyModel(0.001), ToyScores([], GRID)
    progress = [0.0]

    def advance(share: float) -> None:
        progress[0] += share

    todo = [name for name in names if name not in store.records]
    Engine(store, scores, model, cases, constant=constant).run(Photographs(folder, RESNET50.preprocess), todo, advance)
    return model, scores, progress[0]


def test_equal_patterns_of_an_image_are_asked_once_and_batches_are_full(tmp_path: Path) -> None:
    with Store(tmp_path / "out", {}) as store:
        model, _, progress = run(tmp_path / "images", 5, store)
        # of each image: lossless; quantised; 1 missing; 2 and 3; all; 4; 1 filled by means
        assert sum(model.batches) == 5 * 7
        assert model.batches == [BATCH] * 4 + [3]
        assert progress == pytest.approx(5)
        for record in store.records.values():
            answers = record.answers
            assert answers["p1"] == answers["p2"]
            assert answers["p0"] == answers["whole, mean"] == answers["two"][1:]
            assert len(answers["two"]) == 2
            assert answers["p3"] != answers["p0"] != answers["mean"]
            assert answers["p4"] == [0]
            assert REFERENCE in answers


def test_what_is_the_same_for_all_images_is_asked_once(tmp_path: Path) -> None:
    with Store(tmp_path / "out", {}) as store:
        model, _, _ = run(tmp_path / "images", 20, store, [nothing_at_hand(GRID, "zero")])
        asked = sum(not chi.any() for chi in model.seen)
        assert asked <= 3  # the first, and those that were asked before its answer was there
        assert {tuple(record.answers["p4"]) for record in store.records.values()} == {(0,)}


def test_only_what_is_missing_is_asked_when_points_are_added(tmp_path: Path) -> None:
    with Store(tmp_path / "out", {}) as store:
        run(tmp_path / "images", 3, store)
        known = {name: dict(record.answers) for name, record in store.records.items()}
        model = ToyModel(0.001)

        def more(subject: Subject) -> Iterator[Case]:
            yield from cases(subject)
            delivered = Delivered(lambda: subject.chi, GRID)
            yield delivered.case("new", 0, at_hand(7), "zero", 0.0)
            yield delivered.case("two", 2, at_hand(8), "zero", 0.0)

        Engine(store, ToyScores([], GRID), model, more).run(
            Photographs(tmp_path / "images", RESNET50.preprocess), [*known], lambda share: None
        )
        assert sum(model.batches) == 3 * 2
        for name, answers in known.items():
            now = store.records[name].answers
            assert now["two"][:2] == answers["two"]
            assert len(now["two"]) == 3
            assert now.keys() - answers.keys() == {"new"}


def test_broken_and_tiny_images_are_skipped_and_named_and_count_as_done(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_images(images, 2)
    (images / "broken.png").write_bytes(b"no picture")
    with Store(tmp_path / "out", {}) as store:
        progress: list[float] = []
        Engine(store, ToyScores([], GRID), ToyModel(), cases).run(
            Photographs(images, RESNET50.preprocess), ["000.png", "001.png", "broken.png"], progress.append
        )
        assert sum(progress) == pytest.approx(3)
        assert [*store.skipped([*store.records])] == ["broken.png"]


def test_an_image_with_nothing_left_to_ask_keeps_its_numbers(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (name,) = write_images(images, 1)
    with Store(tmp_path / "out", {}) as store:
        store.add(name, Record({REFERENCE: [3]}))
        engine = Engine(store, ToyScores([], GRID), ToyModel(), lambda subject: [], lambda subject: {"x": 0.5})
        engine.run(Photographs(images, RESNET50.preprocess), [name], lambda share: None)
        assert store.records[name].numbers == {"x": 0.5}
        assert store.records[name].answers == {REFERENCE: [3]}
