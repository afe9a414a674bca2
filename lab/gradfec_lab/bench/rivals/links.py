"""The links of the comparison: what each is like, and for what link a fixed plan on it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATAGRAM_BITS = 8 * 1500
QUEUE_S = 0.5  # of a slow link, in full datagrams: as long as a home router's, and no longer


@dataclass(frozen=True)
class State:
    """What a link is like for a while: the delay is that of each way, all else that of the way to the cloud."""

    delay_ms: float
    rate_mbit_s: float | None = None
    loss: float = 0.0
    burst: float | None = None

    def options(self) -> list[str]:
        """Return the injector's options."""
        found = ["--delay", f"{self.delay_ms:g}", "--back-delay", f"{self.delay_ms:g}"]
        if self.rate_mbit_s is not None:
            queue = round(QUEUE_S * 1e6 * self.rate_mbit_s / DATAGRAM_BITS)
            found += ["--rate", f"{self.rate_mbit_s:g}", "--queue", str(queue)]
        if self.loss:
            found += ["--loss", f"{self.loss:g}"]
        if self.burst is not None:
            found += ["--burst", f"{self.burst:g}"]
        return found


@dataclass(frozen=True)
class Link:
    """A link by name: its states, each from some second of the footage on.

    A rival with a fixed plan makes it for the nominal state. `seconds` is how long the footage runs, if not once.
    """

    name: str
    states: tuple[tuple[float, State], ...]
    seconds: float | None = None
    between: State | None = None  # what is nominal on a link that changes

    @property
    def nominal(self) -> State:
        """Return the state for which fixed plans are made."""
        return self.between or self.states[0][1]

    def state_at(self, seconds: float) -> State:
        """Return the state at a second of the footage; that of its lead-in, before the first, is the first one."""
        return [state for start, state in self.states if start <= max(seconds, 0)][-1]

    def options(self, folder: Path, lead_in_s: float) -> list[str]:
        """Return the injector's options; its schedule, if there is one, goes into the folder."""
        (_, first), *later = self.states
        if not later:
            return first.options()
        schedule = folder / "schedule.txt"
        lines = [f"{start + lead_in_s:g} {' '.join(state.options())}\n" for start, state in later]
        schedule.write_text("".join(lines), encoding="ascii")
        return [*first.options(), "--schedule", str(schedule)]


STEADY = {
    "clean": State(20),
    "5mbit": State(20, rate_mbit_s=5),
    "1mbit-5": State(40, rate_mbit_s=1, loss=0.05),
    "1mbit-bursts": State(40, rate_mbit_s=1, loss=0.2, burst=8),
    "2mbit-half": State(40, rate_mbit_s=2, loss=0.5),
    "300kbit": State(40, rate_mbit_s=0.3),
}
STEP_S = 10.0
WALK = Link(
    "walk",
    tuple((number * STEP_S, state) for number, state in enumerate(STEADY.values())),
    seconds=STEP_S * len(STEADY),
    between=State(40, rate_mbit_s=1, loss=0.2),
)
LINKS = {name: Link(name, ((0.0, state),)) for name, state in STEADY.items()} | {WALK.name: WALK}
