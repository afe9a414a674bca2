"""What is known of the link: the chances are those of the model, and the watch finds the model, soon after a change."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate, LinkWatch
from gradfec_common.protect.link import LEAST, MOST, OUTAGE, Losses, arrivals

TENSOR = 12  # datagrams
MODELS = st.builds(Losses, st.floats(0.002, 0.8), st.floats(1.0, 12.0)).filter(
    lambda losses: losses.share / (1 - losses.share) <= losses.burst  # otherwise there is no such link
)


def gilbert(rng, losses, count):
    """Return which of so many datagrams arrive; the link has lost the one before them by chance."""
    was_lost, arrived = rng.random() < losses.share, np.zeros(count, bool)
    for i, chance in enumerate(rng.random(count)):
        was_lost = chance >= 1 / losses.burst if was_lost else chance < losses.after_arrival
        arrived[i] = not was_lost
    return arrived


def watched(arrived, watch=None):
    """Show a watch datagrams, tensor by tensor."""
    watch = watch or LinkWatch()
    for first in range(0, len(arrived), TENSOR):
        watch.saw(arrived[first : first + TENSOR])
    return watch


def found(watch):
    return LinkEstimate(watch.losses)


# --- chances ---


def chance_of(lost, losses):
    """The chance of one pattern of losses, by the two chances of the model."""
    chance, before = 1.0, None
    for is_lost in lost:
        after = 1 - 1 / losses.burst if before else losses.after_arrival
        lose = losses.share if before is None else after
        chance *= lose if is_lost else 1 - lose
        before = is_lost
    return chance


@settings(max_examples=30, deadline=None)
@given(MODELS, st.integers(1, 8))
def test_so_many_datagrams_arrive_with_the_chance_of_all_patterns_that_have_so_many(losses, n):
    expected = np.zeros(n + 1)
    for lost in itertools.product([False, True], repeat=n):
        expected[n - sum(lost)] += chance_of(lost, losses)
    assert arrivals(losses, n)[n] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("losses", [Losses(0.02, 1.1), Losses(0.1, 2.0), Losses(0.3, 8.0), Losses(0.6, 3.0)])
def test_as_many_datagrams_arrive_as_in_a_simulation(losses):
    rng, n, runs = np.random.default_rng(7), 20, 20_000
    lost = rng.random(runs) < losses.share
    count = np.zeros(runs, np.intp)
    for _ in range(n):
        chance = rng.random(runs)
        lost = np.where(lost, chance >= 1 / losses.burst, chance < losses.after_arrival)
        count += ~lost
    seen = np.bincount(count, minlength=n + 1) / runs
    chances = arrivals(losses, n)[n]
    assert np.abs(seen - chances).max() < 5 * np.sqrt(0.25 / runs)
    assert chances @ np.arange(n + 1) == pytest.approx(n * (1 - losses.share))


@given(MODELS, st.integers(1, 60))
def test_chances_add_up_to_one_and_as_many_arrive_as_are_not_lost(losses, n):
    chances = arrivals(losses, n)[n]
    assert chances.shape == (n + 1,)
    assert (chances >= 0).all()
    assert chances.sum() == pytest.approx(1)
    assert chances @ np.arange(n + 1) == pytest.approx(n * (1 - losses.share))


def test_longer_runs_of_losses_make_both_few_and_all_more_likely():
    short, long = arrivals(Losses(0.1, 1.2), 20)[20], arrivals(Losses(0.1, 6.0), 20)[20]
    assert long[20] > short[20]
    assert long[:10].sum() > short[:10].sum()


def test_an_estimate_of_several_models_is_their_mixture():
    one, other = Losses(0.02, 1.5), Losses(0.3, 6.0)
    link = LinkEstimate(((0.75, one), (0.25, other)))
    assert link.loss == pytest.approx(0.75 * 0.02 + 0.25 * 0.3)
    assert link.arrivals(9) == pytest.approx(0.75 * arrivals(one, 9)[9] + 0.25 * arrivals(other, 9)[9])
    assert 1.5 < link.burst < 6.0
    assert link.burst == pytest.approx(0.09 / (0.75 * 0.02 / 1.5 + 0.25 * 0.3 / 6))  # losses by runs
    assert LinkEstimate(((1.0, other),)).burst == pytest.approx(6.0)


def test_an_unknown_link_loses_a_little_has_no_rounds_and_no_bound():
    assert (UNKNOWN_LINK.rounds, UNKNOWN_LINK.frame_bytes) == (0, None)
    assert UNKNOWN_LINK.loss == pytest.approx(0.05)


# --- the watch ---


def test_before_anything_came_the_watch_supposes_what_an_unknown_link_is():
    assert found(LinkWatch()).loss == pytest.approx(UNKNOWN_LINK.loss, rel=0.1)
    assert found(LinkWatch()).burst == pytest.approx(UNKNOWN_LINK.burst, abs=0.1)


@pytest.mark.parametrize("burst", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.25, 0.5])
def test_the_watch_finds_loss_and_burst_of_a_link_within_bounds_of_what_its_memory_can_know(share, burst):
    """Within 5 standard errors of a memory of 100 datagrams, and the mean of all seeds within a quarter.

    Of rare losses, within two fifths: there are few runs of them in the memory.
    """
    losses = Losses(share, burst)
    estimates = [found(watched(gilbert(np.random.default_rng(seed), losses, 1500))) for seed in range(30)]
    runs = 2 * 100 * share / burst  # an exponential memory of 100 is worth a window of 200
    error = share * np.sqrt(2 / max(runs, 1))
    assert all(abs(link.loss - share) < 5 * error for link in estimates)
    within = 0.4 if share <= 0.05 else 0.25
    assert np.mean([link.loss for link in estimates]) == pytest.approx(share, rel=within)
    assert np.mean([link.burst for link in estimates]) == pytest.approx(burst, rel=within)


def test_of_a_link_without_losses_next_to_nothing_is_supposed_to_be_lost():
    assert LEAST <= found(watched(np.ones(1500, bool))).loss < 0.006


def test_after_a_step_from_2_to_25_percent_of_losses_the_watch_knows_it_within_200_datagrams_and_back_within_250():
    for first, then, knows, within in (
        (0.02, 0.25, lambda loss: loss > 0.15, 200),
        (0.25, 0.02, lambda loss: loss < 0.06, 250),
    ):
        took = []
        for seed in range(15):
            rng = np.random.default_rng(seed)
            watch = watched(gilbert(rng, Losses(first, 2.0), 1200))
            assert not knows(found(watch).loss)
            coming = gilbert(rng, Losses(then, 2.0), 600)
            took.append(0)
            while not knows(found(watch).loss):
                watch.saw(coming[took[-1] : took[-1] + TENSOR])
                took[-1] += TENSOR
        assert max(took) <= within
        assert np.median(took) <= 120


def test_one_run_of_losses_on_a_good_link_is_soon_forgotten():
    watch = watched(np.ones(2000, bool))
    watch.saw(np.arange(TENSOR) < 4)  # eight datagrams in a row are lost
    assert found(watch).loss > 0.02
    assert found(watched(np.ones(400, bool), watch)).loss < 0.02


def test_a_long_outage_teaches_nothing_after_its_first_tensors():
    watch = watched(gilbert(np.random.default_rng(1), Losses(0.05, 2.0), 2000))
    nothing = np.zeros(TENSOR, bool)
    learned = [found(watch).loss]
    for _ in range(OUTAGE):
        watch.saw(nothing)
        learned.append(found(watch).loss)
    assert learned == sorted(set(learned))  # each of these is a loss like any other
    after = watch.losses
    for _ in range(1000):
        watch.saw(nothing)
    assert watch.losses == after
    assert found(watched(np.ones(600, bool), watch)).loss < 0.05  # and what comes then is learned again


def test_a_tensor_of_nothing_is_no_news():
    watch = watched(np.ones(100, bool))
    before = watch.losses
    watch.saw(np.zeros(0, bool))
    assert watch.losses == before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), max_size=40), max_size=40))
def test_whatever_came_the_weights_add_up_to_about_1_and_every_model_is_a_link(tensors):
    watch = LinkWatch()
    for tensor in tensors:
        watch.saw(np.array(tensor, bool))
        weights = [weight for weight, _ in watch.losses]
        assert sum(weights) == pytest.approx(1, abs=0.02)  # each is rounded to a hundredth
        assert min(weights) >= 0.05
        for _, losses in watch.losses:
            assert LEAST <= losses.share <= MOST
            assert 1 <= losses.burst <= 100
            assert arrivals(losses, 10)[10].sum() == pytest.approx(1)


def test_a_link_that_brings_one_datagram_of_hundreds_is_still_a_link():
    watch = LinkWatch()
    for _ in range(50):
        watch.saw(np.arange(256) == 0)
        link = LinkEstimate(watch.losses)
        assert all(losses.share <= MOST for _, losses in watch.losses)
        assert link.arrivals(50).sum() == pytest.approx(1, abs=0.05)
    assert link.loss > 0.9


def test_what_the_watch_says_depends_on_what_came_alone():
    arrived = gilbert(np.random.default_rng(3), Losses(0.1, 3.0), 1000)
    assert watched(arrived).losses == watched(arrived).losses
