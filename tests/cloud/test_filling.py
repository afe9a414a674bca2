"""A concealment that takes long has a time limit, and whatever an edge sends, gaps become something finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.cloud.small import GRID, SPLIT, decided
from tests.common.learned import learned_of

from gradfec_cloud.decoding import Decoder
from gradfec_cloud.filling import InTime, in_time
from gradfec_common.conceal import CONCEALMENTS, Stepwise, make_concealment
from gradfec_common.conceal.concealment import Floats, Mask
from gradfec_common.conceal.mean import Mean
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_host.logs import Log

MEANS = np.linspace(1, 2, SPLIT.shape[2], dtype=np.float32)
MEAN = Mean(SPLIT, {"means": MEANS})
STEPWISE = [name for name, make in CONCEALMENTS.items() if isinstance(make, type) and issubclass(make, Stepwise)]


class Slow(Stepwise):
    """Writes nines into gaps, then takes three steps of a second on its own clock, and may fail after them."""

    def __init__(self, error: Exception | None = None, value: float = 9.0) -> None:
        self.now = 0.0
        self._error, self._value = error, value

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        tensor[:] = np.where(grid.join(np.repeat(there[:, None], grid.size, axis=1)), tensor, self._value)
        for _ in range(3):
            self.now += 1
            yield
        if self._error:
            raise self._error


def filled(slow: Slow, limit_s: float) -> tuple[Floats, InTime, list[str]]:
    """A tensor of sevens whose second half is missing, filled twice, and what was said of it."""
    said: list[str] = []
    conceal = InTime(slow, MEAN, limit_s, said.append, lambda: slow.now)
    there = np.arange(GRID.count) < GRID.count // 2
    for _ in range(2):
        tensor = conceal(np.full(GRID.shape, 7, np.float32), there, GRID)
    packets = GRID.split(tensor)
    assert (packets[there] == 7).all()
    return packets[~there], conceal, said


def test_within_its_time_a_concealment_fills_the_gaps() -> None:
    gaps, conceal, said = filled(Slow(), 3)
    assert (gaps == 9).all()
    assert (conceal.given_up, said) == ({}, [])


@pytest.mark.parametrize(
    ("slow", "limit_s", "reason", "words"),
    [
        (Slow(), 2, "out_of_time", "takes longer than 2000 ms (--fill-ms)"),
        (Slow(np.linalg.LinAlgError("did not converge")), 3, "no_answer", "finds no finite answer"),
        (Slow(value=np.inf), 3, "no_answer", "finds no finite answer"),
        (Slow(value=np.nan), 2, "out_of_time", "takes longer than 2000 ms (--fill-ms)"),
    ],
)
def test_otherwise_the_means_do_and_that_is_counted_each_time_and_said_once(
    slow: Slow, limit_s: float, reason: str, words: str
) -> None:
    gaps, conceal, said = filled(slow, limit_s)
    channel = np.repeat(np.arange(GRID.shape[2]), GRID.groups)[GRID.count // 2 :]
    np.testing.assert_array_equal(gaps, np.repeat(MEANS[channel, None], GRID.size, axis=1))
    assert (conceal.given_up, said) == ({reason: 2}, [words])


def test_nothing_is_done_where_nothing_is_missing() -> None:
    slow = Slow()
    InTime(slow, MEAN, 0, lambda reason: None)(np.zeros(GRID.shape, np.float32), np.ones(GRID.count, bool), GRID)
    assert slow.now == 0


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("value", [0.0, 3.4e38, 1e-45])
@pytest.mark.filterwarnings("error")
def test_values_at_the_ends_of_the_range_get_an_answer_or_the_means(name: str, share: float, value: float) -> None:
    grid = PacketGrid((6, 4, 5), 2)
    cut, learned = replace(SPLIT, shape=grid.shape), learned_of(5)
    made = make_concealment(name, cut, learned)
    assert isinstance(made, Stepwise)
    rng = np.random.default_rng(1)
    tensor = (value * rng.choice([-1, 1], grid.shape)).astype(np.float32)
    there = rng.random(grid.count) < share
    result = InTime(made, Mean(cut, learned), 60, lambda reason: None)(tensor.copy(), there, grid)
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(grid.split(result)[there], grid.split(tensor)[there])


def test_a_decoder_counts_what_was_given_up_of_all_its_cuts() -> None:
    slow = Slow(np.linalg.LinAlgError())
    decoder = Decoder({SPLIT: InTime(slow, MEAN, 9, lambda reason: None)})
    decoder.decode(SPLIT, decided(7).arrived)
    decoder.close()
    assert decoder.given_up == {"no_answer": 1}


def test_only_what_takes_long_is_limited() -> None:
    cut = named_cut("conv2_block1_add")
    for name in ("zero", "neighbour", "caltec"):
        conceal = make_concealment(name, cut, {})
        limited = in_time({cut: conceal}, 1, Log("test"))[cut]
        assert isinstance(limited, InTime) == (name == "caltec")
