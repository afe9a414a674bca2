"""The engine asks what the product would deliver, each thing once, and in full batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.common.small_tensors import OF_PARTS

from gradfec_common.codes import LEOPARD, ZFEC
from gradfec_common.conceal import make_concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.delivery import packets_at_hand
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import NestedProtection, NoProtection, Policy, UnequalProtection
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import encode_tensor
from gradfec_edge.coding import Coding
from gradfec_edge.compensation import compensated
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.bare_drop import BareDrop
from gradfec_lab.sweep.engine import BATCH, REFERENCE, Case, Delivered, Deliveries, Engine, Subject, nothing_at_hand
from gradfec_lab.sweep.store import Record, Store

from .toys import ToyModel, ToyScores, write_images

GRID = PacketGrid((14, 4, 6), 7)  # 12 packets
SPLIT = Cut(RESNET50, 900, "a_small_one", (14, 4, 6))
MEANS = np.arange(6, dtype=np.float32)
CONCEAL = {name: make_concealment(name, SPLIT, {"means": MEANS}) for name in ("zero", "mean")}
UNIFORM8 = QUANTISERS["uniform8"]
POLICIES = [NoProtection(), UnequalProtection(50, ZFEC), NestedProtection((2, 5, 7), 9, LEOPARD)]


@pytest.mark.parametrize("fill", CONCEAL)
@pytest.mark.parametrize("packets", [1, 2, None])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("codec", ["uniform8", "uniform5", "sqrt4"])
@pytest.mark.leopard
def test_delivered_features_are_those_that_the_cloud_decodes(
    codec: str, policy: Policy, packets: int | None, fill: str
) -> None:
    rng = np.random.default_rng(3)
    chi, scores = rng.normal(size=GRID.shape).astype(np.float32), rng.random(GRID.count).astype(np.float32)
    coding = Coding(SPLIT, GRID, QUANTISERS[codec], policy, packets)
    plan, delivered = Deliveries(Subject("cat", chi, {"random": scores}))(coding, "random")
    bodies = encode_tensor(delivered.coded, coding.quantiser, plan).bodies(0)
    for share in (0.2, 0.5, 1):
        arrived = rng.random(plan.sent) < share
        arrived[rng.integers(plan.sent)] = True
        reassembly = Reassembly(bodies[arrived][0].tobytes(), GRID)
        assert reassembly.add(bodies[arrived]) == {}
        case = delivered.case("p", 0, packets_at_hand(plan, arrived), fill, CONCEAL[fill])
        np.testing.assert_array_equal(case.features(), decode_tensor(reassembly, CONCEAL[fill]).tensor)


def bare_drop(share: float) -> Coding:
    return Coding(SPLIT, GRID, UNIFORM8, BareDrop(share), packets_a_datagram=1)


def test_what_a_plan_compensates_for_is_told_apart_from_what_is_sent_as_it_is() -> None:
    rng = np.random.default_rng(4)
    chi = rng.random(GRID.shape).astype(np.float32)
    form = np.cov(rng.normal(size=(2, 6, 20)).reshape(12, 20))
    damages = {"proxy": np.stack([form[:6, :6], form[6:, 6:]]).astype(np.float32)}
    scores = rng.random(GRID.count).astype(np.float32)
    deliveries = Deliveries(Subject("cat", chi, {"proxy": scores, "static": scores}, damages))
    half, third, everything = bare_drop(0.5), bare_drop(0.33), bare_drop(0)

    def case(coding: Coding, estimator: str) -> Case:
        plan, delivered = deliveries(coding, estimator)
        there = packets_at_hand(plan, np.ones(plan.sent, bool))
        return delivered.case("p", 0, there, "zero", CONCEAL["zero"])

    cases = [case(half, "proxy"), case(half, "static"), case(third, "proxy"), case(everything, "proxy")]
    assert len({one.pattern for one in cases}) == 4
    plan, as_it_is = deliveries(half, "static")
    scaled = Delivered(UNIFORM8.encode(compensated(chi, damages["proxy"], plan.dropped, GRID), GRID), UNIFORM8, GRID)
    there = packets_at_hand(plan, np.ones(plan.sent, bool))
    for one, delivered in zip(cases, (scaled, as_it_is), strict=False):
        expected = delivered.case("p", 0, there, "zero", CONCEAL["zero"])
        assert one.pattern == expected.pattern
        np.testing.assert_array_equal(one.features(), expected.features())
    assert not np.array_equal(cases[0].features(), cases[1].features())
    nothing = scaled.case("p", 0, np.zeros(GRID.count, bool), "zero", CONCEAL["zero"])
    assert nothing.pattern == nothing_at_hand(GRID, "zero")
    assert cases[3].pattern == case(everything, "static").pattern  # nothing is dropped, nothing compensated for


def test_quantisers_are_told_apart() -> None:
    chi = np.random.default_rng(5).random(GRID.shape).astype(np.float32)
    everything = np.ones(GRID.count, bool)
    patterns = {
        Delivered(one.encode(chi, GRID), one, GRID).case("p", 0, everything, "zero", CONCEAL["zero"]).pattern
        for one in OF_PARTS.values()
    }
    assert len(patterns) == len(OF_PARTS)


def at_hand(*missing: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """All packets but these."""
    there = np.ones(GRID.count, bool)
    there[[*missing]] = False
    return there


def sent(subject: Subject) -> Delivered:
    return Delivered(UNIFORM8.encode(subject.chi, GRID), UNIFORM8, GRID)


def cases(subject: Subject) -> Iterator[Case]:
    zero, mean = CONCEAL.values()
    for number, missing in enumerate([(), (1,), (1,), (2, 3), range(GRID.count)]):
        yield sent(subject).case(f"p{number}", 0, at_hand(*missing), "zero", zero)
    yield sent(subject).case("two", 0, at_hand(4), "zero", zero)
    yield sent(subject).case("two", 1, at_hand(), "zero", zero)
    yield sent(subject).case("mean", 0, at_hand(1), "mean", mean)
    yield sent(subject).case("whole, mean", 0, at_hand(), "mean", mean)


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
            yield sent(subject).case("new", 0, at_hand(7), "zero", CONCEAL["zero"])
            yield sent(subject).case("two", 2, at_hand(8), "zero", CONCEAL["zero"])

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


def test_a_reference_answers_lossless_features_and_nothing_else(tmp_path: Path) -> None:
    names = write_images(tmp_path / "images", 2)
    model, reference = ToyModel(0.001), ToyModel(0.001)
    with Store(tmp_path / "out", {}) as store:
        engine = Engine(store, ToyScores([], GRID), model, cases, reference=reference)
        engine.run(Photographs(tmp_path / "images", RESNET50.preprocess), names, lambda share: None)
        assert len(reference.seen) == 2
        assert len(model.seen) == 2 * 6  # as above, without the lossless ones
        lossless = [int(reference(chi[np.newaxis])[0]) for chi in reference.seen[:2]]
        assert [store.records[name].answers[REFERENCE] for name in names] == [[one] for one in lossless]
