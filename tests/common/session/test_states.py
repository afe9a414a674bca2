"""The states of sessions and tensors: every pair of state and event, by the table and in the real cores."""

import ast
import itertools
from pathlib import Path

import pytest

from gradfec_common import session
from gradfec_common.session import contact, in_flight, sessions, tensor
from gradfec_common.session.edge import Closed
from gradfec_common.session.events import Decided
from gradfec_common.session.states import (
    AWAITED,
    EDGE,
    SESSION,
    TENSOR,
    AwaitedEvent,
    AwaitedState,
    EdgeEvent,
    EdgeState,
    SessionEvent,
    SessionState,
    TensorEvent,
    TensorState,
    after,
)
from gradfec_common.wire import Ack, Bye, Ping, Pong

from . import edges
from .clouds import DEADLINE_S, Cloud, tensor_of
from .edges import OTHER, Edge, report, result
from .ends import KEY

# The tables once more, as a person would draw them: a row for each state, a column for each event.
EXPECTED = {
    "edge": """
                  welcome    refusal    question   sign_of_life silence  goodbye    leave      patience_ends
        seeking   waiting    seeking    -          -            -        -          left       -
        connected -          -          waiting    connected    -        over       leaving    -
        waiting   -          -          waiting    connected    lost     over       leaving    -
        lost      waiting    lost       -          connected    -        over       leaving    -
        over      waiting    over       -          over         -        over       leaving    -
        leaving   -          -          -          leaving      -        left       leaving    left
        left      -          -          -          left         -        left       left       -
    """,
    "session": """
                  sign_of_life goodbye silence displaced key_removed cloud_leaves
        tentative open         -       ended   ended     ended       ended
        open      open         ended   ended   -         ended       ended
        ended     -            -       -       -         -           -
    """,
    "tensor": """
                   decide  overload answer   fail    close    abandon
        collecting decided dropped  -        -       -        dropped
        decided    -       -        answered dropped closed   dropped
        answered   -       -        -        -       finished -
        closed     -       -        finished dropped -        dropped
        finished   -       -        -        -       -        -
        dropped    -       -        -        -       -        -
    """,
    "awaited": """
                   result   report   give_up
        unanswered answered reported closed
        answered   -        closed   closed
        reported   closed   -        closed
        closed     -        -        -
    """,
}
MACHINES = {
    "edge": (EDGE, EdgeState, EdgeEvent),
    "session": (SESSION, SessionState, SessionEvent),
    "tensor": (TENSOR, TensorState, TensorEvent),
    "awaited": (AWAITED, AwaitedState, AwaitedEvent),
}


def expected(machine):
    """What follows each pair of state and event, None where the event cannot happen."""
    _, states, events = MACHINES[machine]
    head, *rows = [line.split() for line in EXPECTED[machine].strip().splitlines()]
    following = {(row[0], event): cell for row in rows for event, cell in zip(head, row[1:], strict=True)}
    return {
        (state, event): states.__members__.get(following[state.name.lower(), event.name.lower()].upper())
        for state, event in itertools.product(states, events)
    }


def named(pair):
    return "-".join(part.name.lower() for part in pair)


PAIRS = [(machine, *pair, then) for machine in MACHINES for pair, then in expected(machine).items()]


@pytest.mark.parametrize(("machine", "state", "event", "then"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_an_event_leads_where_the_table_says_or_cannot_happen(machine, state, event, then):
    table = MACHINES[machine][0]
    if then is None:
        with pytest.raises(AssertionError, match="cannot happen in"):
            after(table, state, event)
    else:
        assert after(table, state, event) is then


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_can_be_reached_and_some_are_final(machine):
    table, states, _ = MACHINES[machine]
    reached, todo = set(), [next(iter(states))]
    while todo:
        state = todo.pop()
        reached.add(state)
        todo += [then for then in table[state].values() if then not in reached]
    assert reached == {*states} == {*table}
    assert any({*following.values()} <= {state} for state, following in table.items())


def test_only_a_move_assigns_a_state():
    for path in sorted(Path(session.__file__).parent.glob("*.py")):
        for function in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]:
            assigned = {
                target.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Attribute)
            }
            assert "state" not in assigned or function.name in ("move", "__init__"), f"{path.name}: {function.name}"


# --- in the real cores ---


@pytest.fixture
def moves(monkeypatch):
    """The pairs of state and event that have happened."""
    happened = []

    def watched(table, state, event):
        happened.append((state, event))
        return after(table, state, event)

    for module in (contact, in_flight, sessions, tensor):
        monkeypatch.setattr(module, "after", watched)
    return happened


def legal(machine):
    return [pair for pair, then in expected(machine).items() if then is not None]


def illegal(machine, events):
    return [pair for pair, then in expected(machine).items() if then is None and pair[1] in events]


# --- the edge's contact ---


def _lost(edge):
    edge.connect()
    edge.open()
    edge.wait(2.4)


def _over(edge):
    edge.connect()
    edge.hear(Bye())
    edge.wait(1)


def _leaving(edge):
    edge.connect()
    edge.core.leave(edge.now)
    edge.look()


def _left(edge):
    _leaving(edge)
    edge.wait(1.1)


def _hear(edge, message):
    if edges.SESSION not in edge.ends:  # the cloud has answered, and the answer was lost
        edge.answer_to(edge.hellos[-1])
    edge.hear(message)


def _leave(edge):
    edge.core.leave(edge.now)
    edge.look()


TO_EDGE_STATE = {
    EdgeState.SEEKING: lambda edge: edge.wait(0),
    EdgeState.CONNECTED: Edge.connect,
    EdgeState.WAITING: lambda edge: (edge.connect(), edge.wait(5.01)),
    EdgeState.LOST: _lost,
    EdgeState.OVER: _over,
    EdgeState.LEAVING: _leaving,
    EdgeState.LEFT: _left,
}
EDGE_EVENTS = {
    EdgeEvent.WELCOME: lambda edge: edge.welcome(session=OTHER),
    EdgeEvent.REFUSAL: lambda edge: edge.refuse("full"),
    EdgeEvent.QUESTION: Edge.open,
    EdgeEvent.SIGN_OF_LIFE: lambda edge: _hear(edge, Pong()),
    EdgeEvent.SILENCE: lambda edge: edge.wait(1.5),
    EdgeEvent.GOODBYE: lambda edge: _hear(edge, Bye()),
    EdgeEvent.LEAVE: _leave,
    EdgeEvent.PATIENCE_ENDS: lambda edge: edge.wait(1.1),
}
FROM_THE_CLOUD = (EdgeEvent.WELCOME, EdgeEvent.REFUSAL, EdgeEvent.SIGN_OF_LIFE, EdgeEvent.GOODBYE)


@pytest.mark.parametrize("pair", legal("edge"), ids=named)
def test_what_may_happen_to_an_edge_does(moves, edge, pair):
    state, event = pair
    TO_EDGE_STATE[state](edge)
    assert edge.core.state is state
    moves.clear()
    EDGE_EVENTS[event](edge)
    assert pair in moves
    assert edge.core.state is EDGE[state][event]


@pytest.mark.parametrize("pair", illegal("edge", FROM_THE_CLOUD), ids=named)
def test_what_the_cloud_says_at_the_wrong_time_moves_no_edge(moves, edge, pair):
    state, event = pair
    TO_EDGE_STATE[state](edge)
    moves.clear()
    EDGE_EVENTS[event](edge)
    assert not moves
    assert edge.core.state is state


# --- a session at the cloud ---


def _ended(cloud):
    end = cloud.connect()
    cloud.say(Bye(), end)
    return end


TO_SESSION_STATE = {
    SessionState.TENTATIVE: lambda cloud: cloud.greet(),
    SessionState.OPEN: lambda cloud: cloud.connect(),
    SessionState.ENDED: _ended,
}
SESSION_EVENTS = {
    SessionEvent.SIGN_OF_LIFE: lambda cloud, end: cloud.say(Ping(), end),
    SessionEvent.GOODBYE: lambda cloud, end: cloud.say(Bye(), end),
    SessionEvent.SILENCE: lambda cloud, end: cloud.wait(36),
    SessionEvent.DISPLACED: lambda cloud, end: cloud.greet(),
    SessionEvent.KEY_REMOVED: lambda cloud, end: (cloud.core.change_keys({}), cloud.look()),
    SessionEvent.CLOUD_LEAVES: lambda cloud, end: (cloud.core.say_goodbye(), cloud.look()),
}


@pytest.mark.parametrize("pair", legal("session"), ids=named)
def test_what_may_happen_to_a_session_does(moves, pair):
    state, event = pair
    cloud = Cloud(keys=(KEY,), sessions=1)
    end = TO_SESSION_STATE[state](cloud)
    kept = cloud.core._sessions[end.number]
    assert kept.state is state
    moves.clear()
    SESSION_EVENTS[event](cloud, end)
    assert pair in moves
    assert kept.state is SESSION[state][event]
    assert (kept.state is SessionState.ENDED) == (end.number not in cloud.core._sessions)


@pytest.mark.parametrize("event", [SessionEvent.SIGN_OF_LIFE, SessionEvent.GOODBYE], ids=lambda event: event.name)
def test_nothing_moves_a_session_that_has_ended(moves, cloud, event):
    end = TO_SESSION_STATE[SessionState.ENDED](cloud)
    moves.clear()
    SESSION_EVENTS[event](cloud, end)
    assert not moves
    assert cloud.counts["unknown_session"] == 1


def test_a_goodbye_opens_a_tentative_session_before_it_ends_it(moves, cloud):
    cloud.say(Bye(), cloud.greet())
    assert moves == [
        (SessionState.TENTATIVE, SessionEvent.SIGN_OF_LIFE),
        (SessionState.OPEN, SessionEvent.GOODBYE),
    ]


# --- a tensor at the cloud ---


class AtCloud:
    """A cloud with a tensor in a state, beside another one that the back-end works on."""

    NUMBER = 1

    def __init__(self, state, *, overloaded):
        self.cloud = Cloud(pending_tensors=1 if overloaded else 2)
        self.end = self.cloud.connect()
        self.cloud.feed(*tensor_of(self.end, 0))
        self.datagrams = tensor_of(self.end, self.NUMBER)
        self.cloud.feed(*self.datagrams[:3])
        self.kept = self.cloud.core._tensors._sessions[self.end.number].tensors[self.NUMBER]
        if state is not TensorState.COLLECTING:
            self.complete()
        if state in (TensorState.ANSWERED, TensorState.FINISHED):
            self.cloud.answer(self.decided)
        if state in (TensorState.CLOSED, TensorState.FINISHED):
            self.close()
        if state is TensorState.DROPPED:
            self.abandon()

    @property
    def decided(self):
        return next(e for e in self.cloud.events if isinstance(e, Decided) and e.tensor == self.NUMBER)

    def complete(self):
        self.cloud.feed(*self.datagrams[3:11])

    def close(self):
        self.cloud.wait(2 * DEADLINE_S)

    def abandon(self):
        self.cloud.say(Ack([self.NUMBER], []), self.end)

    def fail(self):
        self.cloud.core.fail(self.decided)
        self.cloud.look()


TENSOR_EVENTS = {
    TensorEvent.DECIDE: AtCloud.complete,
    TensorEvent.OVERLOAD: AtCloud.complete,
    TensorEvent.ANSWER: lambda at: at.cloud.answer(at.decided),
    TensorEvent.FAIL: AtCloud.fail,
    TensorEvent.CLOSE: AtCloud.close,
    TensorEvent.ABANDON: AtCloud.abandon,
}


@pytest.mark.parametrize("pair", legal("tensor"), ids=named)
def test_what_may_happen_to_a_tensor_does(moves, pair):
    state, event = pair
    at = AtCloud(state, overloaded=event is TensorEvent.OVERLOAD)
    assert at.kept.state is state
    moves.clear()
    TENSOR_EVENTS[event](at)
    assert moves[-1] == pair
    assert at.kept.state is TENSOR[state][event]
    over = at.kept.state in (TensorState.FINISHED, TensorState.DROPPED)
    assert over == (at.NUMBER not in at.cloud.core._tensors._sessions[at.end.number].tensors)


@pytest.mark.parametrize("state", TensorState, ids=lambda state: state.name)
def test_no_datagram_of_a_tensor_moves_it_where_it_may_not(moves, state):
    """Whatever comes, and comes again, in whatever state: a move that may not be is an AssertionError."""
    at = AtCloud(state, overloaded=False)
    assert at.kept.state is state
    for _ in range(2):
        at.cloud.feed(*tensor_of(at.end, at.NUMBER))
        at.abandon()
    assert at.kept.state in (TensorState.ANSWERED, TensorState.FINISHED, TensorState.DROPPED)


# --- a tensor that the edge awaits an answer for ---


AWAITED_EVENTS = {
    AwaitedEvent.RESULT: lambda edge: edge.hear(result(0)),
    AwaitedEvent.REPORT: lambda edge: edge.hear(report(0)),
    AwaitedEvent.GIVE_UP: lambda edge: edge.wait(2.1),
}
SAID = {
    AwaitedState.UNANSWERED: [],
    AwaitedState.ANSWERED: [result(0)],
    AwaitedState.REPORTED: [report(0)],
    AwaitedState.CLOSED: [result(0), report(0)],
}


def awaited(edge, state):
    edge.connect()
    edge.open()
    kept = edge.core._tensors._tensors[0]
    for message in SAID[state]:
        edge.hear(message)
    assert kept.state is state
    return kept


@pytest.mark.parametrize("pair", legal("awaited"), ids=named)
def test_what_may_happen_to_an_awaited_tensor_does(moves, edge, pair):
    state, event = pair
    kept = awaited(edge, state)
    moves.clear()
    AWAITED_EVENTS[event](edge)
    assert pair in moves
    assert kept.state is AWAITED[state][event]
    assert (kept.state is AwaitedState.CLOSED) == bool(edge.took(Closed))


@pytest.mark.parametrize("pair", illegal("awaited", (AwaitedEvent.RESULT, AwaitedEvent.REPORT)), ids=named)
def test_an_answer_that_comes_again_moves_nothing(moves, edge, pair):
    state, event = pair
    kept = awaited(edge, state)
    moves.clear()
    AWAITED_EVENTS[event](edge)
    assert not [move for move in moves if isinstance(move[1], AwaitedEvent)]
    assert kept.state is state
    assert edge.counts["late" if state is AwaitedState.CLOSED else "duplicate"] == 1
