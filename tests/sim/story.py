"""A whole story, told from a seed: everything that may go wrong does, and then the network heals for good."""

from __future__ import annotations

from .network import Simulation
from .swarm import CLEAN, Edge, bad_weather


class Story(Simulation):
    """What befalls the edges and the cloud of a simulation, and how they find each other again."""

    def bad_phase(self) -> None:
        """Everything that may go wrong does."""
        end = self.now + self.swarm.bad_phase_s
        for edge in self.edges:
            self._keep_sending(edge, end)
            self._keep_changing_weather(edge, end)
        for _ in range(int(self.rng.integers(0, 4))):
            self.at(float(self.rng.uniform(self.now, end)), self._accident)
        self.run(self.swarm.bad_phase_s)

    def _keep_sending(self, edge: Edge, end: float) -> None:
        def frame() -> None:
            if self.now < end:
                self.send_tensor(edge)
                self.at(self.now + self.swarm.interval_s, frame)

        self.at(self.now + float(self.rng.uniform(0, 0.5)), frame)

    def _keep_changing_weather(self, edge: Edge, end: float) -> None:
        def change() -> None:
            if self.now < end:
                self.weather(edge, bad_weather(self.rng), bad_weather(self.rng))
                self.at(self.now + float(self.rng.uniform(0.3, 3)), change)

        self.at(self.now + float(self.rng.uniform(0, 1)), change)

    def _accident(self) -> None:
        if self.healed:
            return
        edge = self.edges[int(self.rng.integers(len(self.edges)))]
        match self.rng.choice(["cloud", "cloud leaves", "edge", "edge leaves", "edge moves"]):
            case "cloud" if self.cloud:
                self.stop_cloud()
                self.at(self.now + float(self.rng.choice([0.0, 0.3, 3.0])), self._start_if_down)
            case "cloud leaves" if self.cloud:
                self.cloud.leave()
                life = self.cloud_life
                self.at(self.now + float(self.rng.uniform(0, 1)), lambda: self._say_goodbye(life))
            case "edge":
                self.restart_edge(edge)
            case "edge leaves":
                self.restart_edge(edge, politely=True)
            case "edge moves":
                self.move_edge(edge)

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

    def heal(self) -> None:
        """Make the network, the cloud and its back-end good, for good."""
        self.note("healed")
        self.healed = True
        for edge in self.edges:
            self.weather(edge, CLEAN, CLEAN)
        if self.cloud is not None and self.cloud.leaving:
            self._say_goodbye(self.cloud_life)
        self._start_if_down()

    @property
    def quiet(self) -> bool:
        """Whether every edge is connected, to a session of its address, and nothing is open or on its way anywhere."""
        assert self.cloud is not None
        return (
            all(edge.core.connected and not edge.core.open_tensors for edge in self.edges)
            and {(edge.core.session, edge.address) for edge in self.edges}
            == {(session.id, session.peer) for session in self.cloud._sessions.values()}
            and not self.cloud.open_tensors
            and not self.cloud.unacknowledged
            and not self.owed
            and all(len(edge.up) == len(edge.down) == 1 for edge in self.edges)
        )

    def converge(self) -> None:
        """Assert that, healed, edges and cloud find each other and all that they held is over, in bounded time."""
        self.heal()
        idle_s = self.swarm.cloud.session_idle_s  # after which a place is free that an edge's former address holds
        assert self.run(idle_s + 15, lambda: self.quiet), f"not quiet {idle_s + 15:g} s after the network has healed"
        for edge in self.edges:
            strays = 0
            for _ in range(3):
                outcome = self.probe(edge)
                if outcome is None and not strays:
                    strays += 1  # its number was too far ahead; the next must do
                    outcome = self.probe(edge)
                assert outcome == "complete", f"{edge.name}: a tensor over a clean link is {outcome}"
        assert self.run(5, lambda: self.quiet)
        self.run(5.5)  # beyond any deadline and repetition
        assert self.quiet
        assert self.cloud is not None
        assert len(self.cloud._timers) == 1, "timers are left over"
        assert len(self.cloud._sessions) == len(self.cloud._by_peer) == len(self.edges)

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
        return edge.answered.get(number, "unanswered")

    def story(self) -> str:
        """Run the whole story and return the hash of its trace."""
        self.bad_phase()
        self.converge()
        return self.trace.hexdigest()
