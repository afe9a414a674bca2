"""The edge's contact with its cloud: its state, and when the next question, hello or goodbye is due."""

from __future__ import annotations

from typing import NamedTuple

from gradfec_common.session.edge_events import EdgeLimits
from gradfec_common.session.states import EDGE, EdgeEvent, EdgeState, after

CONNECTED = (EdgeState.CONNECTED, EdgeState.WAITING)
LEAVING = (EdgeState.LEAVING, EdgeState.LEFT)


class Due(NamedTuple):
    """What an edge has to send now."""

    question: bool = False
    hello: bool = False
    goodbye: bool = False


class Contact:
    """The state of an edge, and the times that go with it."""

    def __init__(self, limits: EdgeLimits, now: float) -> None:
        self.state = EdgeState.SEEKING  # only `move` assigns it
        self._limits = limits
        self._ask_at = now
        self._repeat_s = limits.repeat_s
        self._heard_at = now  # in CONNECTED: the last sign of life
        self._owed_since = now  # in WAITING
        self._lost_at = now  # in LOST
        self._bye_at = now  # in LEAVING and LEFT: when the timer is due
        self._gone_at = now  # in LEAVING: when patience ends

    def move(self, event: EdgeEvent) -> None:
        """Change the state as the table says."""
        self.state = after(EDGE, self.state, event)

    @property
    def connected(self) -> bool:
        """Whether the cloud is there and takes tensors."""
        return self.state in CONNECTED

    # --- what happens ---

    def welcome(self, now: float) -> None:
        """Begin a session; the cloud owes the answer to the edge's first question."""
        self.move(EdgeEvent.WELCOME)
        self._owed_since = now
        self._repeat_s = self._limits.repeat_s

    def question(self, now: float) -> None:
        """Note that the cloud has been given something to answer."""
        if self.state is EdgeState.CONNECTED:
            self._owed_since = now
        self.move(EdgeEvent.QUESTION)

    def sign_of_life(self, now: float, *, more_owed: bool) -> bool:
        """Note that the cloud has been heard, though it may owe more; return whether the link was lost before."""
        was_lost = self.state is EdgeState.LOST
        self.move(EdgeEvent.SIGN_OF_LIFE)
        self._heard_at = now
        if was_lost:
            self._repeat_s = self._limits.repeat_s
        if self.connected and more_owed:
            self.question(now)
        return was_lost

    def silence(self, now: float) -> bool:
        """Return whether the cloud has been silent for so long that the link is lost as of now."""
        if self.state is not EdgeState.WAITING or now - self._owed_since < self._limits.lost_after_s:
            return False
        self.move(EdgeEvent.SILENCE)
        self._lost_at, self._repeat_s = now, self._limits.repeat_s
        return True

    def goodbye(self) -> bool:
        """Note that the cloud says goodbye; return whether the edge was connected until now."""
        was_connected = self.connected
        self.move(EdgeEvent.GOODBYE)
        if was_connected:
            self._repeat_s = self._limits.repeat_s
        return was_connected

    def leave(self, now: float) -> None:
        """Begin to say goodbye: again and again until the cloud answers, or for `bye_patience_s`."""
        self.move(EdgeEvent.LEAVE)
        self._bye_at, self._gone_at = now, now + self._limits.bye_patience_s

    # --- what is due ---

    @property
    def next_timer(self) -> float:
        """When `due` has something to say next."""
        match self.state:
            case EdgeState.CONNECTED:
                return self._heard_at + self._limits.keepalive_s
            case EdgeState.WAITING:
                return max(self._owed_since + self._limits.probe_after_s, self._ask_at)
            case EdgeState.LEAVING | EdgeState.LEFT:
                return self._bye_at
        return self._ask_at

    def due(self, now: float) -> Due:
        """Return what has to be said now, each once."""
        if now < self.next_timer:
            return Due()
        if self.state in LEAVING:
            return Due(goodbye=self._repeat_goodbye(now))
        due = Due(question=self._has_session, hello=self._needs_session(now))
        self._ask_at = now + self._repeat_s
        if self.connected:
            self.question(now)
        else:
            self._repeat_s = min(2 * self._repeat_s, self._limits.repeat_max_s)
        return due

    @property
    def _has_session(self) -> bool:
        return self.connected or self.state is EdgeState.LOST

    def _needs_session(self, now: float) -> bool:
        """Return whether to look for a new session: there is none, or the cloud may have forgotten it."""
        if self.state is EdgeState.LOST:
            return now - self._lost_at >= self._limits.hello_after_s
        return not self.connected

    def _repeat_goodbye(self, now: float) -> bool:
        """Return whether the edge still says goodbye: the cloud may not have heard it."""
        self._bye_at = now + self._limits.bye_repeat_s
        if self.state is EdgeState.LEAVING and now >= self._gone_at:
            self.move(EdgeEvent.PATIENCE_ENDS)
        return self.state is EdgeState.LEAVING
