"""Who works on what, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gradfec_cloud.workers.ray import dispatch
from gradfec_cloud.workers.ray.dispatch import (
    EVERY_S,
    FIRST_S,
    HERE,
    IDLE_S,
    IN_FLIGHT,
    KILL_S,
    LEASED_TO,
    LEAST_S,
    REJOIN_S,
    Dispatcher,
    Effect,
    Fail,
    Kill,
    Rejoin,
    Run,
    Start,
    Stop,
)


class Story:
    """A dispatcher with ready workers, and the time."""

    def __init__(self, least: int, most: int | None = None, *, fallback: bool = False, ready: bool = True) -> None:
        self.dispatcher = Dispatcher(least, most or least, fallback=fallback)
        self.now = 100.0
        self.leases = 0
        self.dispatcher.connected(self.now)
        if ready:
            self.get_ready()

    def effects(self) -> list[Effect]:
        return self.dispatcher.effects()

    def get_ready(self) -> None:
        for effect in self.effects():
            if isinstance(effect, Start):
                self.dispatcher.ready(effect.worker, self.now)

    def submit(self, queued_s: float = 0.0) -> list[Effect]:
        self.leases += 1
        self.dispatcher.submit(self.leases, queued_s, self.now)
        return self.effects()

    def back(self, worker: int, lease: int) -> list[Effect]:
        self.dispatcher.returned(worker, lease, self.now)
        return self.effects()

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, from timer to timer; return the effects."""
        end, effects = self.now + seconds, []
        while (due := self.dispatcher.next_timer()) is not None and due <= end:
            self.now = max(due, self.now)
            self.dispatcher.handle_timer(self.now)
            effects += self.effects()
        self.now = end
        return effects


def test_each_worker_holds_a_few_batches_and_the_least_busy_gets_the_next() -> None:
    story = Story(2)
    assert story.dispatcher.room == 2 * IN_FLIGHT
    assert [story.submit() for _ in range(5)] == [[Run(1, 1)], [Run(2, 2)], [Run(1, 3)], [Run(2, 4)], []]
    assert story.back(2, 2) == [Run(2, 5)]


def test_batches_wait_until_there_is_a_worker() -> None:
    story = Story(1, ready=False)
    assert story.dispatcher.room == 0
    assert story.submit() == [Start(1)]
    story.dispatcher.ready(1, story.now)
    assert story.effects() == [Run(1, 1)]


def test_a_worker_that_dies_costs_no_batch_and_works_again_when_it_is_restarted() -> None:
    story = Story(2)
    story.submit(), story.submit(), story.submit()
    story.dispatcher.died(1, story.now)
    assert story.effects() == [Run(2, 1)]
    assert story.back(2, 2) == [Run(2, 3)]
    crew = story.dispatcher.crew
    assert (crew.ready, crew.wanted, crew.lost, crew.released) == (1, 2, {"died": 1}, {"died": 2})
    story.dispatcher.ready(1, story.now)
    assert story.dispatcher.crew.ready == 2
    assert story.submit() == [Run(1, 4)]


def test_a_batch_on_which_worker_after_worker_dies_fails() -> None:
    story = Story(4)
    story.submit()
    for worker in range(1, LEASED_TO):
        story.dispatcher.died(worker, story.now)
        assert story.effects() == [Run(worker + 1, 1)]
    story.dispatcher.died(LEASED_TO, story.now)
    (fail,) = story.effects()
    assert isinstance(fail, Fail) and fail.lease == 1
    assert story.submit() == [Run(4, 2)]


def test_a_worker_that_is_silent_for_long_keeps_its_batches_and_others_get_them_too() -> None:
    story = Story(2)
    for _ in range(2):  # it is usually fast
        story.submit()
        story.now += 0.01
        story.back(1, story.leases)
    story.submit()
    assert story.wait(LEAST_S - 0.001) == []
    assert story.wait(0.002) == [Run(2, 3)]
    assert story.dispatcher.room == IN_FLIGHT
    assert story.submit() == [Run(2, 4)]
    story.back(2, 3)
    assert story.back(1, 3) == []  # late, and alive
    assert story.dispatcher.room == 2 * IN_FLIGHT
    assert story.submit() == [Run(1, 5)]
    assert story.dispatcher.crew.lost == story.dispatcher.crew.released == {"hung": 1}


def test_the_only_worker_gets_no_batch_twice() -> None:
    story = Story(1)
    story.submit()
    assert story.wait(FIRST_S + 1) == []
    assert story.dispatcher.room == 0
    assert story.submit() == []
    assert story.back(1, 1) == [Run(1, 2)]


def test_the_first_batch_may_take_long_and_slow_networks_are_learnt() -> None:
    story = Story(1)
    story.submit()
    story.now += FIRST_S - 0.1
    story.back(1, 1)
    assert story.dispatcher.patience_s == dispatch.MOST_S
    story = Story(1)
    for _ in range(20):  # each takes a second, although the first was fast
        story.submit()
        story.wait(0.01 if story.leases == 1 else 1.0)
        story.back(1, story.leases)
    assert story.dispatcher.patience_s == 4.0
    assert story.dispatcher.crew.lost["hung"] <= 3


def test_a_worker_that_hangs_for_good_is_killed_and_works_again_when_it_is_restarted() -> None:
    story = Story(2)
    story.submit()
    assert story.wait(FIRST_S) == [Run(2, 1)]
    story.back(2, 1)
    assert story.wait(KILL_S) == [Kill(1)]
    story.dispatcher.died(1, story.now)  # as its calls fail
    assert story.dispatcher.crew.lost == {"hung": 1, "died": 1}
    story.dispatcher.ready(1, story.now)
    assert story.dispatcher.crew.ready == 2


def test_a_worker_that_is_gone_is_replaced_and_one_that_cannot_start_is_tried_ever_less_often() -> None:
    story = Story(1)
    story.dispatcher.gone(1, story.now)
    assert story.effects() == [Start(2)]
    story = Story(1, ready=False)
    assert story.effects() == [Start(1)]
    tried = []
    for _ in range(8):
        worker = story.dispatcher._numbers
        story.dispatcher.gone(worker, story.now)
        assert story.effects() == []
        before = story.now
        while not (effects := story.wait(EVERY_S)):
            pass
        assert effects == [Start(worker + 1)]
        tried.append(story.now - before)
    assert tried == sorted(tried) and tried[0] <= 2 and 30 <= tried[-1] <= 31


def test_when_the_cluster_is_gone_batches_wait_for_the_next_one() -> None:
    story = Story(2)
    story.submit(), story.submit()
    for _ in range(5):  # that is no fault of a batch
        story.dispatcher.disconnected(story.now)
        assert story.effects() == []
        assert story.dispatcher.room == 0
        story.dispatcher.connected(story.now)
        starts = story.effects()
        assert [type(one) for one in starts] == [Start, Start]
        for start in starts:
            story.dispatcher.ready(start.worker, story.now)
        assert [one.lease for one in story.effects()] == [1, 2]
    assert story.dispatcher.crew.lost == story.dispatcher.crew.released == {"gone": 10}


def test_a_cluster_whose_workers_all_stay_away_is_joined_again() -> None:
    story = Story(2)
    story.dispatcher.died(1, story.now)
    assert story.wait(2 * REJOIN_S) == []
    story.dispatcher.died(2, story.now)
    assert story.wait(REJOIN_S - 1) == []
    story.dispatcher.ready(2, story.now)
    assert story.wait(2 * REJOIN_S) == []
    story.dispatcher.died(2, story.now)
    assert story.wait(3 * REJOIN_S) == [Rejoin()]
    story.dispatcher.disconnected(story.now)
    story.dispatcher.connected(story.now)
    assert [type(one) for one in story.effects()] == [Start, Start]
    assert story.wait(10 * REJOIN_S) == [], "the first start may take long"


def test_with_a_fallback_this_process_works_one_batch_at_a_time_while_nobody_else_can() -> None:
    story = Story(1, fallback=True)
    assert not story.dispatcher.crew.fallback
    story.submit(), story.submit()
    story.dispatcher.disconnected(story.now)
    assert story.effects() == [Run(HERE, 1)]
    assert (story.dispatcher.room, story.dispatcher.crew.fallback) == (1, True)
    assert story.back(HERE, 1) == [Run(HERE, 2)]
    story.dispatcher.connected(story.now)
    story.get_ready()
    assert story.dispatcher.room == IN_FLIGHT
    assert story.submit() == [Run(2, 3)]
    assert story.back(HERE, 2) == []


def test_a_batch_that_nobody_wants_any_more_goes_to_no_further_worker() -> None:
    story = Story(2)
    story.submit()
    story.dispatcher.forget(1, story.now)
    story.dispatcher.died(1, story.now)
    assert story.effects() == []
    story.dispatcher.forget(1, story.now)
    story.back(2, 1)


def busy(story: Story, seconds: float, *, queued_s: float, workers: int = 1000) -> list[Effect]:
    """Keep so many workers busy with batches that have waited."""
    effects: list[Effect] = []
    for _ in range(round(seconds * 10)):
        runs = [one for _ in range(min(workers, story.dispatcher.crew.ready)) for one in story.submit(queued_s)]
        effects += story.wait(0.1)
        for run in [*runs, *effects]:
            if isinstance(run, Run):
                effects += story.back(run.worker, run.lease)
        effects = [one for one in effects if not isinstance(one, Run)]
        for one in effects:
            if isinstance(one, Start) and one.worker in story.dispatcher._workers:
                story.dispatcher.ready(one.worker, story.now)
    return effects


def test_workers_are_added_while_frames_wait_and_leave_when_they_have_been_idle() -> None:
    story = Story(1, 4)
    assert busy(story, 20, queued_s=0.0) == []
    assert busy(story, 20, queued_s=0.2) == [Start(2), Start(3), Start(4)]
    assert story.dispatcher.crew.ready == 4
    assert busy(story, 2 * IDLE_S, queued_s=0.0) == [], "they are all busy"
    stops = busy(story, 5 * IDLE_S, queued_s=0.0, workers=1)
    assert [type(one) for one in stops] == [Stop, Stop], "with one that is busy most of the time, two are enough"
    assert story.dispatcher.crew.wanted == 2
    assert [type(one) for one in story.wait(3 * IDLE_S)] == [Stop]
    assert story.wait(3 * IDLE_S) == []


def test_a_worker_that_leaves_gives_its_batches_back_first() -> None:
    story = Story(2)
    story.dispatcher._least, story.dispatcher._wanted = 1, 1
    story.submit(), story.submit()
    assert story.wait(EVERY_S) == []
    assert story.submit() == [Run(1, 3)], "the other leaves"
    assert story.back(2, 2) == [Stop(2)]


# --- chance ---

FRAMES = 200


class Cluster:
    """Workers that take their time, die, hang for a while, start late or never, and a cluster that comes and goes."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = random.Random(seed)
        self.now, self.end_of_trouble = 0.0, dice.uniform(5, 60)
        least = dice.randint(1, 4)
        self.fallback = dice.random() < 0.3
        self.dispatcher = Dispatcher(least, least + dice.randint(0, 4), fallback=self.fallback)
        self.service_s = dice.choice([0.005, 0.05, 0.3])
        self.troubles = {name: dice.choice([0.0, 0.0, 0.05, 0.3]) for name in ("dies", "hangs", "cannot start", "gone")}
        self.script: list[tuple[float, int, tuple[object, ...]]] = []
        self.tickets = 0
        self.lives: Counter[int] = Counter()  # of workers: what an earlier one was to say, it never says
        self.there = False
        self.fates: dict[int, list[str]] = {}
        self.at_work: Counter[int] = Counter()
        self.queue: list[int] = []
        self.leases = 0

    def at(self, delay_s: float, *event: object) -> None:
        self.tickets += 1
        self.script.append((self.now + delay_s, self.tickets, event))

    def trouble(self, name: str) -> bool:
        return self.now < self.end_of_trouble and self.dice.random() < self.troubles[name]

    def run(self) -> None:
        self.at(0.1, "cluster")
        for _ in range(FRAMES):
            self.at(self.dice.uniform(0, self.end_of_trouble), "frame")
        while True:
            due = self.dispatcher.next_timer()
            first = min(self.script, default=None)
            if len(self.fates) == FRAMES and all(self.fates.values()):
                break
            assert self.now < self.end_of_trouble + 200, "a batch is never answered"
            if first is not None and (due is None or first[0] <= due):
                self.script.remove(first)
                self.now = max(first[0], self.now)
                self.happens(*first[2])
            else:
                assert due is not None
                self.now = max(due, self.now)
                self.dispatcher.handle_timer(self.now)
            self.carry_out()

    def happens(self, what: object, worker: int = 0, life: int = 0, lease: int = 0) -> None:
        d, now = self.dispatcher, self.now
        if worker and (not self.there or self.lives[worker] != life):
            return
        match what:
            case "frame":
                self.leases += 1
                self.queue.append(self.leases)
                self.fates[self.leases] = []
            case "cluster":
                self.there = True
                d.connected(now)
                if self.trouble("gone"):
                    self.at(self.dice.uniform(0, 20), "cluster gone")
            case "cluster gone" if self.there:
                self.there = False
                d.disconnected(now)
                self.at(self.dice.uniform(0, 10), "cluster")
            case "ready":
                d.ready(worker, now)
            case "cannot start":
                self.lives[worker] += 1
                d.gone(worker, now)
            case "dies":
                self.die(worker)
            case "back":
                self.back(worker, lease)

    def back(self, worker: int, lease: int) -> None:
        self.at_work[worker] -= 1
        self.fates[lease].append("returned")
        self.dispatcher.returned(worker, lease, self.now)

    def die(self, worker: int) -> None:
        self.lives[worker] += 1
        self.at_work[worker] = 0
        if self.dice.random() < 0.7:
            self.dispatcher.died(worker, self.now)
            self.at(self.dice.uniform(0.5, 3), "ready", worker, self.lives[worker])
        else:
            self.dispatcher.gone(worker, self.now)

    def carry_out(self) -> None:
        while True:
            while self.queue and sum(not fate for fate in self.fates.values()) - len(self.queue) < self.dispatcher.room:
                self.dispatcher.submit(self.queue.pop(0), self.dice.choice([0.0, 0.2]), self.now)
            effects = self.dispatcher.effects()
            if not effects:
                return
            for effect in effects:
                self.do(effect)

    def do(self, effect: Effect) -> None:
        match effect:
            case Start(worker):
                life = self.lives[worker]
                if self.trouble("cannot start"):
                    self.at(1.0, "cannot start", worker, life)
                else:
                    self.at(self.dice.uniform(0.1, 3), "ready", worker, life)
            case Stop(worker):
                assert not self.at_work[worker] or self.troubles["hangs"], "it is stopped while it works"
                self.lives[worker] += 1
            case Kill(worker):
                self.lives[worker] += 1
                self.at_work[worker] = 0
                self.at(self.dice.uniform(0.5, 3), "ready", worker, self.lives[worker])
            case Run(0, lease):
                self.at_work[HERE] += 1
                assert self.at_work[HERE] == 1 and self.fallback
                self.at(self.service_s, "back", 0, 0, lease)
            case Run(worker, lease):
                self.at_work[worker] += 1
                assert self.at_work[worker] <= IN_FLIGHT, "too many at once"
                life = self.lives[worker]
                if self.trouble("dies"):
                    self.at(self.dice.uniform(0, self.service_s), "dies", worker, life)
                    return
                hangs_s = self.dice.choice([0.5, 10.0, 1000.0]) if self.trouble("hangs") else 0.0
                self.at(self.service_s * self.at_work[worker] + hangs_s, "back", worker, life, lease)
            case Rejoin():
                self.happens("cluster gone")
            case Fail(lease):
                assert not self.fates[lease]
                self.fates[lease].append("failed")


@pytest.mark.parametrize("seed", range(200))
def test_every_batch_is_given_back_whatever_happens_to_workers_and_cluster(seed: int) -> None:
    story = Cluster(seed)
    story.run()
    assert len(story.fates) == FRAMES
    for fate in story.fates.values():  # a worker may give a batch back that has failed, or that another one has, too
        assert fate.count("failed") <= 1 and "failed" not in fate[1:]
    crew = story.dispatcher.crew
    if not any(story.troubles[name] for name in ("dies", "hangs", "gone")):
        assert not crew.lost and not crew.released
        assert all(fate == ["returned"] for fate in story.fates.values())
    if not story.troubles["dies"]:
        assert all("failed" not in fate for fate in story.fates.values())
