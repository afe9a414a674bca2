"""A whole run, told from a seed: whatever may go wrong does; then the network heals for good, and all is well again."""

from __future__ import annotations

from . import nodes
from .attackers import ATTACKERS
from .network import CLEAN
from .simulation import Edge, Simulation
from .swarm import ACCIDENTS, draw_weather

EVEN = (1.0, 1.5)
UNEVEN = (0.1, 0.1, 0.1, 3.7)  # factors of the interval between tensors
IDLE_S = 5.5  # beyond any deadline and repetition
MOST_IDLE_STEPS = 40  # of one edge and the cloud in that time: a question whether anyone is there, and its answer


class Story(Simulation):
    """The safety phase, in which no promise is broken, and the liveness phase, in which all are kept in time."""

    def bad_phase(self) -> None:
        """Everything that this run's troubles may do, they do."""
        start, end = self.now, self.now + self.swarm.bad_phase_s
        features = self.swarm.features
        if "spared" in features:
            self.spared = self.edges[0]
            assert self.run(1, lambda: self.quiet), "not connected over a clean link"
            end += self.now - start
        for edge in self.edges:
            self._keep_sending(edge, end)
            if edge is not self.spared:
                self._keep_changing_weather(edge, end)
        for what in ACCIDENTS:
            if what in features:
                for _ in range(self.dice.choice([1, 2, 3])):
                    self.at(self.dice.uniform(start, end), lambda what=what: self._accident(what))  # type: ignore[misc]
        for name, attacker in ATTACKERS.items():
            if name in features:
                attacker(self, end)
        self.run(end - self.now)

    def _keep_sending(self, edge: Edge, end: float) -> None:
        uneven = EVEN if edge is self.spared else UNEVEN

        def frame() -> None:
            if self.now < end:
                self.send_tensor(edge)
                self.at(self.now + self.dice.choice(uneven) * self.swarm.interval_s, frame)

        self.at(self.now + self.dice.uniform(0, 0.5), frame)

    def _keep_changing_weather(self, edge: Edge, end: float) -> None:
        def change() -> None:
            if self.now < end:
                up = draw_weather(self.dice, self.swarm.features)
                down = draw_weather(self.dice, self.swarm.features) if "asymmetry" in self.swarm.features else up
                self.weather(edge, up, down)
                self.at(self.now + self.dice.uniform(0.3, 3), change)

        self.at(self.now + self.dice.uniform(0, 1), change)

    def _accident(self, what: str) -> None:
        if self.healed:
            return
        if not (victims := self.victims):
            return
        edge = self.dice.choice(victims)
        match what:
            case "partition":
                until = self.now + self.dice.choice([0.2, 1.0, 3.0])
                for cut in self.dice.sample(victims, self.dice.randint(1, len(victims))):
                    for way in (cut.up, cut.down):
                        way.dark_until = until
            case "edge moves":
                self.move_edge(self.dice.choice(self.edges))
            case "edge restarts":
                self.restart_edge(edge)
            case "edge leaves":
                self.let_go(edge)
            case "cloud restarts" if self.cloud:
                self.stop_cloud()
                self.at(self.now + self.dice.choice([0.0, 0.3, 3.0]), self._start_if_down)
            case "cloud leaves" if self.cloud:
                self.cloud.leave()
                life = self.cloud_life
                self.at(self.now + self.dice.uniform(0, 1), lambda: self._say_goodbye(life))
            case "keys change":
                self.change_keys({key for key in self.known if self.dice.random() < 0.5})
                self.at(self.now + self.dice.choice([0.3, 2.0]), lambda: self.change_keys(set()))
            case "back-end stalls":
                self.back_end_free_at = max(self.now, self.back_end_free_at) + 2.0

    def _start_if_down(self) -> None:
        if self.cloud is None:
            self.start_cloud()

    def _say_goodbye(self, life: int) -> None:
        if self.cloud is None or life != self.cloud_life:
            return
        self.cloud.say_goodbye()
        self._drain_cloud(self.cloud)
        assert (self.cloud.open_sessions, self.cloud.open_tensors, self.cloud.unacknowledged) == (0, 0, 0)
        self.stop_cloud()
        self.at(self.now + 0.5, self._start_if_down)

    def check_spared(self, edge: Edge) -> None:
        """Assert that an edge with a good link has all its tensors answered, in one session, whatever others did."""
        self.run(2.5, lambda: not edge.open)
        assert len(edge.sessions) == 1, "an edge with a good link was driven out of its session"
        assert not edge.lost_links, "an edge with a good link has lost it"
        outcomes = {edge.answered.get(number, "unanswered") for number in edge.sent}
        assert outcomes <= {"complete"}, f"tensors over a good link are {sorted(outcomes)}"

    def heal(self) -> None:
        """Make the network, the cloud and its back-end good, and strangers silent, for good."""
        self.note("healed")
        self.healed = True
        self.back_end_free_at = self.now
        for edge in self.edges:
            self.weather(edge, CLEAN, CLEAN)
            edge.up.dark_until = edge.down.dark_until = 0.0
        self.taps.clear()
        self.hear.clear()
        self.change_keys(set())
        if self.cloud is not None and self.cloud.leaving:
            self._say_goodbye(self.cloud_life)
        self._start_if_down()

    @property
    def quiet(self) -> bool:
        """Whether every edge is connected, to a session of its address, and nothing is open or on its way anywhere."""
        assert self.cloud is not None
        return (
            all(edge.core.connected and not edge.core.open_tensors and not edge.leaving for edge in self.edges)
            and {(edge.core.session, edge.address) for edge in self.edges}
            == {(session.id, session.peer) for session in nodes.sessions_of(self.cloud).values()}
            and all(nodes.understands(self.cloud, edge.core) for edge in self.edges)
            and not self.cloud.open_tensors
            and not self.cloud.unacknowledged
            and not self.waiting
            and (self.workers is None or self.workers.idle)
            and all(edge.up.settled and edge.down.settled for edge in self.edges)
        )

    def converge(self) -> None:
        """Assert that, healed, edges and cloud find each other and all that they held is over, in bounded time."""
        self.heal()
        # A place that an edge's former address holds is free after the idle time. An edge that waits for it keeps its
        # old session alive meanwhile, by asking there, even if it cannot read the answers: that one idles next.
        bound_s = 2 * self.swarm.cloud.session_idle_s + 15
        assert self.run(bound_s, lambda: self.quiet), f"not quiet {bound_s:g} s after the network has healed"
        for edge in self.edges:
            strays = 0
            for _ in range(2):
                outcome = self.probe(edge)
                if outcome is None and not strays:
                    strays += 1  # its number was too far ahead; the next must do
                    outcome = self.probe(edge)
                assert outcome == "complete", f"{edge.name}: a tensor over a clean link is {outcome}"
        assert self.run(5, lambda: self.quiet), "what was sent last is not over"
        self.run(IDLE_S)
        before = self.steps, self.network.datagrams
        self.run(IDLE_S)
        assert self.quiet, "an idle link does not stay so"
        assert self.network.datagrams - before[1] <= 4 * len(self.edges), "something is repeated for ever"
        assert self.steps - before[0] <= MOST_IDLE_STEPS * len(self.edges), "an idle core is not idle"
        assert self.cloud is not None
        assert nodes.timers_of(self.cloud) == 1, "timers are left over"
        self.take_census()

    def probe(self, edge: Edge) -> str | None:
        """Send one tensor and return its outcome; None where it was out of the window."""
        assert self.cloud is not None
        before = self.cloud.counts["out_of_window"]
        number = self.send_tensor(edge)
        assert number is not None, f"{edge.name} may not send"
        closed = self.run(
            self.swarm.edge.answer_timeout_s + self.swarm.sending_s + 1.1, lambda: number not in edge.open
        )
        assert closed, "a tensor is not closed in time"
        if self.cloud.counts["out_of_window"] > before:
            return None
        assert number in edge.reported, "a tensor's losses are not reported"
        return edge.answered.get(number, "unanswered")

    def story(self) -> str:
        """Run the whole story and return the hash of its trace."""
        self.bad_phase()
        if self.spared:
            self.check_spared(self.spared)
        self.converge()
        return self.trace.hexdigest()
