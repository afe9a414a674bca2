"""The states of sessions and tensors: four small machines, as tables.

Four kinds of object in the two cores act according to what has happened to them before: the edge's contact, each
session of the cloud, each tensor at the cloud, and each tensor that the edge awaits an answer for. Each of them is in
one state, which has a name. What happens to it is an event. A table says which events can happen in which state, and
which state follows.

Who may change what
-------------------
- Only an object's `move` method assigns its state, and it asks `after`. Nothing else does.
- Only the owner calls `move`: `EdgeSession` for its contact, `InFlight` for the tensors of the edge, `Sessions` for
  those of the cloud, `Tensors` for the tensors of the cloud.
- An event that is not in the table for a state is a mistake in our code, and `after` raises AssertionError. No datagram
  may cause one. So a core looks at the state before it moves, and drops what does not fit under a named reason: the
  second result for a tensor is `duplicate`, a welcome to an edge that has a session is `unexpected`.
- An event carries no data. Times, messages and keys belong to the owner; the comment at a state says which of them it
  needs.

What must stay in sync
----------------------
The two ends of a session cannot see each other's state, and any datagram may be lost. These rules keep them together:

- An edge believes that it has a session when it hears the welcome; the cloud when it hears the edge use it. Until then
  the cloud has only a TENTATIVE session, because the hello may be a replay. So the edge says something as soon as it is
  welcomed, and is WAITING until the cloud answers: if the cloud has forgotten the tentative session meanwhile, the edge
  finds out by the silence.
- An edge whose link is LOST cannot know whether the network or the session is gone. It asks in the old session, and
  after a while it says hello for a new one besides. Whatever is answered first wins. The cloud ends the other session
  when it has been silent for long enough.
- An edge in OVER has been told that the cloud is leaving. The cloud still answers the tensors that it has, so the edge
  goes on reading and acknowledging, but it opens nothing new in that session.
- A tensor is closed at each end by its own clock. The edge closes one when it has result and report, or when it gives
  up; an acknowledgement then tells the cloud, which drops a tensor that has no answer yet. The cloud keeps neither the
  tensor nor its number for longer than its own limits say, whatever the edge does.

`tests/common/session/test_states.py` goes through every pair of state and event, and makes each legal one happen in
the real cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)


def after(table: Mapping[State, Mapping[Event, State]], state: State, event: Event) -> State:
    """Return the state that follows `event`; AssertionError if it cannot happen, which is a bug of ours."""
    following = table[state].get(event)
    if following is None:
        raise AssertionError(f"{event} cannot happen in {state}")
    return following


# --- the edge's session --------------------------------------------------------------------------------------------
#
# An edge looks for the cloud, keeps the link while it can, and leaves when its shell says so. It has a handshake at
# hand, if any, only in SEEKING, LOST and OVER: once it is connected, a welcome that comes late must not begin anything.


class EdgeState(Enum):
    """The state of an edge's session."""

    SEEKING = "seeking"  # there has been no session yet: says hello
    CONNECTED = "connected"  # the cloud owes nothing: asks after a long silence
    WAITING = "waiting"  # the cloud owes a sign of life since `_owed_since`: asks after a short silence
    LOST = "lost"  # the cloud is silent since `_lost_at`: asks, and soon says hello besides
    OVER = "over"  # the cloud has said goodbye: says hello, and still reads what is sent in the old session
    LEAVING = "leaving"  # says goodbye until `_gone_at`, and begins no session
    LEFT = "left"  # the end: sends nothing more


class EdgeEvent(Enum):
    """What happens to an edge's session."""

    WELCOME = "welcome"  # the answer to its hello: a new session
    REFUSAL = "refusal"  # the answer to its hello: no session
    QUESTION = "question"  # it has sent a ping or opened a tensor
    SIGN_OF_LIFE = "sign of life"  # an authentic message of its session, other than a goodbye
    SILENCE = "silence"  # nothing has arrived for too long
    GOODBYE = "goodbye"  # the cloud's
    LEAVE = "leave"  # its shell wants to end
    PATIENCE_ENDS = "patience ends"  # its goodbye was not answered


EDGE: Mapping[EdgeState, Mapping[EdgeEvent, EdgeState]] = {
    EdgeState.SEEKING: {
        EdgeEvent.WELCOME: EdgeState.WAITING,
        EdgeEvent.REFUSAL: EdgeState.SEEKING,
        EdgeEvent.LEAVE: EdgeState.LEFT,  # there is no session, so no goodbye is needed
    },
    EdgeState.CONNECTED: {
        EdgeEvent.QUESTION: EdgeState.WAITING,
        EdgeEvent.SIGN_OF_LIFE: EdgeState.CONNECTED,
        EdgeEvent.GOODBYE: EdgeState.OVER,
        EdgeEvent.LEAVE: EdgeState.LEAVING,
    },
    EdgeState.WAITING: {
        EdgeEvent.QUESTION: EdgeState.WAITING,
        EdgeEvent.SIGN_OF_LIFE: EdgeState.CONNECTED,  # a QUESTION follows at once if tensors are still unanswered
        EdgeEvent.SILENCE: EdgeState.LOST,
        EdgeEvent.GOODBYE: EdgeState.OVER,
        EdgeEvent.LEAVE: EdgeState.LEAVING,
    },
    EdgeState.LOST: {
        EdgeEvent.WELCOME: EdgeState.WAITING,
        EdgeEvent.REFUSAL: EdgeState.LOST,  # the old session may still recover
        EdgeEvent.SIGN_OF_LIFE: EdgeState.CONNECTED,
        EdgeEvent.GOODBYE: EdgeState.OVER,
        EdgeEvent.LEAVE: EdgeState.LEAVING,
    },
    EdgeState.OVER: {
        EdgeEvent.WELCOME: EdgeState.WAITING,
        EdgeEvent.REFUSAL: EdgeState.OVER,
        EdgeEvent.SIGN_OF_LIFE: EdgeState.OVER,
        EdgeEvent.GOODBYE: EdgeState.OVER,
        EdgeEvent.LEAVE: EdgeState.LEAVING,
    },
    EdgeState.LEAVING: {
        EdgeEvent.SIGN_OF_LIFE: EdgeState.LEAVING,
        EdgeEvent.GOODBYE: EdgeState.LEFT,
        EdgeEvent.PATIENCE_ENDS: EdgeState.LEFT,
        EdgeEvent.LEAVE: EdgeState.LEAVING,  # its patience starts again
    },
    EdgeState.LEFT: {
        EdgeEvent.SIGN_OF_LIFE: EdgeState.LEFT,
        EdgeEvent.GOODBYE: EdgeState.LEFT,
        EdgeEvent.LEAVE: EdgeState.LEFT,
    },
}


# --- a session at the cloud ----------------------------------------------------------------------------------------
#
# A hello may be a replay, so a welcome alone costs the cloud little: a TENTATIVE session gets no share, does not count
# as an edge, gives way to others, and ends without a message. The first authentic datagram in it opens it, and can
# be of any kind. That datagram is a SIGN_OF_LIFE before it is anything else, even if it is a goodbye.


class SessionState(Enum):
    """The state of a session at the cloud."""

    TENTATIVE = "tentative"  # the edge was welcomed, but its hello may have been a replay
    OPEN = "open"  # the edge has used it
    ENDED = "ended"  # the end: it is forgotten


class SessionEvent(Enum):
    """What happens to a session at the cloud. The value of one that ends it is the reason that the shell is told."""

    SIGN_OF_LIFE = "sign of life"  # an authentic datagram that is new
    GOODBYE = "bye"  # the edge's
    SILENCE = "idle"  # nothing has arrived for too long
    DISPLACED = "unused"  # a new session needs its place
    KEY_REMOVED = "key removed"
    CLOUD_LEAVES = "leaving"


SESSION: Mapping[SessionState, Mapping[SessionEvent, SessionState]] = {
    SessionState.TENTATIVE: {
        SessionEvent.SIGN_OF_LIFE: SessionState.OPEN,
        SessionEvent.SILENCE: SessionState.ENDED,
        SessionEvent.DISPLACED: SessionState.ENDED,
        SessionEvent.KEY_REMOVED: SessionState.ENDED,
        SessionEvent.CLOUD_LEAVES: SessionState.ENDED,
    },
    SessionState.OPEN: {
        SessionEvent.SIGN_OF_LIFE: SessionState.OPEN,
        SessionEvent.GOODBYE: SessionState.ENDED,
        SessionEvent.SILENCE: SessionState.ENDED,
        SessionEvent.KEY_REMOVED: SessionState.ENDED,
        SessionEvent.CLOUD_LEAVES: SessionState.ENDED,
    },
    SessionState.ENDED: {},
}


# --- a tensor at the cloud -----------------------------------------------------------------------------------------
#
# Two things have to happen to a tensor, in either order once it is decided: the back-end answers it, and it is closed,
# that is, no more of its datagrams are expected and its losses are reported. When both have happened it is FINISHED. It
# is always decided before it is closed. It is DROPPED if there will be no answer, or nobody wants it any more.


class TensorState(Enum):
    """The state of a tensor at the cloud."""

    COLLECTING = "collecting"  # its symbols are held: `arrived` has their bytes
    DECIDED = "decided"  # the back-end has it; datagrams that still come are only counted
    ANSWERED = "answered"  # `result` is there; datagrams that still come are only counted
    CLOSED = "closed"  # `report` is there, the back-end has it; datagrams that still come are late
    FINISHED = "finished"  # the end: `result` and `report` are there
    DROPPED = "dropped"  # the end: it will have no answer


class TensorEvent(Enum):
    """What happens to a tensor at the cloud. The value of one that drops it is the fate that it is counted under."""

    DECIDE = "decide"  # it is complete, or its time is over
    OVERLOAD = "overloaded"  # it ought to be decided, and the back-end may not have more
    ANSWER = "answer"
    FAIL = "failed"  # the back-end has no answer
    CLOSE = "close"  # all its datagrams have come, or its time is over
    ABANDON = "abandoned"  # its answer is not awaited: the edge has given up, or its session has ended


TENSOR: Mapping[TensorState, Mapping[TensorEvent, TensorState]] = {
    TensorState.COLLECTING: {
        TensorEvent.DECIDE: TensorState.DECIDED,
        TensorEvent.OVERLOAD: TensorState.DROPPED,
        TensorEvent.ABANDON: TensorState.DROPPED,
    },
    TensorState.DECIDED: {
        TensorEvent.ANSWER: TensorState.ANSWERED,
        TensorEvent.CLOSE: TensorState.CLOSED,
        TensorEvent.FAIL: TensorState.DROPPED,
        TensorEvent.ABANDON: TensorState.DROPPED,
    },
    TensorState.ANSWERED: {  # cannot be abandoned: the answer stays recorded
        TensorEvent.CLOSE: TensorState.FINISHED,
    },
    TensorState.CLOSED: {
        TensorEvent.ANSWER: TensorState.FINISHED,
        TensorEvent.FAIL: TensorState.DROPPED,
        TensorEvent.ABANDON: TensorState.DROPPED,
    },
    TensorState.FINISHED: {},
    TensorState.DROPPED: {},
}


# --- a tensor that the edge awaits an answer for -------------------------------------------------------------------
#
# Result and report come in either order, each perhaps several times, since the cloud repeats them until it hears that
# they have arrived. Only the first of each counts. Each end of the wait closes the tensor exactly once.


class AwaitedState(Enum):
    """What the edge has heard of a tensor that it has sent."""

    UNANSWERED = "unanswered"  # nothing
    ANSWERED = "answered"  # its `result`
    REPORTED = "reported"  # its `report`
    CLOSED = "closed"  # the end: both, or the edge has given up


class AwaitedEvent(Enum):
    """What happens to a tensor that the edge has sent."""

    RESULT = "result"  # the first
    REPORT = "report"  # the first
    GIVE_UP = "give up"  # its time is over, its session is over, or the edge leaves


AWAITED: Mapping[AwaitedState, Mapping[AwaitedEvent, AwaitedState]] = {
    AwaitedState.UNANSWERED: {
        AwaitedEvent.RESULT: AwaitedState.ANSWERED,
        AwaitedEvent.REPORT: AwaitedState.REPORTED,
        AwaitedEvent.GIVE_UP: AwaitedState.CLOSED,
    },
    AwaitedState.ANSWERED: {
        AwaitedEvent.REPORT: AwaitedState.CLOSED,
        AwaitedEvent.GIVE_UP: AwaitedState.CLOSED,
    },
    AwaitedState.REPORTED: {
        AwaitedEvent.RESULT: AwaitedState.CLOSED,
        AwaitedEvent.GIVE_UP: AwaitedState.CLOSED,
    },
    AwaitedState.CLOSED: {},
}
