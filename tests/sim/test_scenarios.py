"""Certain misfortunes, each with what it may cost: the edge and the cloud find each other again, soon."""

import pytest

from gradfec_common import wire
from gradfec_common.session.events import CloudLimits
from gradfec_common.wire import Bye, Kind

from . import nodes
from .network import CLEAN, DEAD, Origin, Parcel
from .nodes import CLOUD
from .story import Story
from .swarm import Swarm


def simulation(edges=1, service_s=0.01, **cloud):
    """A story in which nothing goes wrong by itself."""
    told = Story(1, Swarm(edges=edges, service_s=service_s, cloud=CloudLimits(**cloud)))
    assert told.run(1, lambda: told.quiet)
    return told


def tell(told, address, datagram):
    """Let the cloud hear a datagram from an address."""
    told.feed_cloud(told.cloud, [Parcel(address, CLOUD, datagram, Origin.REPLAYED)])


def stream(told, seconds, edge=None):
    """Let an edge send a tensor every 50 ms for a while; return the numbers."""
    edge = edge or told.edges[0]
    numbers, end = [], told.now + seconds
    while told.now < end:
        numbers.append(told.send_tensor(edge))
        told.run(told.swarm.interval_s)
    return [number for number in numbers if number is not None]


def outcomes(told, numbers, edge=None):
    """Wait until the tensors are closed and return the answered ones."""
    edge = edge or told.edges[0]
    assert told.run(3.5, lambda: not edge.open & set(numbers))
    return [number for number in numbers if number in edge.answered]


def test_over_a_clean_link_every_tensor_is_answered_complete():
    told = simulation(edges=3)
    for edge in told.edges:
        numbers = stream(told, 1, edge)
        assert len(numbers) >= 20
        assert outcomes(told, numbers, edge) == numbers
        assert set(edge.answered.values()) == {"complete"}
        assert edge.lost_links == 0
        assert {fate for fate, n in edge.core.counts.items() if n} == {"welcome", "result", "report"}
    told.converge()


@pytest.mark.parametrize(("up", "down"), [(DEAD, DEAD), (DEAD, CLEAN), (CLEAN, DEAD)], ids=["both", "up", "down"])
@pytest.mark.parametrize("seconds", [1.0, 3.0, 45.0])
def test_an_outage_of_either_way_is_over_a_second_after_it_ends(up, down, seconds):
    told = simulation()
    (edge,) = told.edges
    stream(told, 0.5)
    told.weather(edge, up, down)
    stream(told, seconds)
    assert edge.lost_links == (1 if seconds >= 3 else 0)
    told.weather(edge, CLEAN, CLEAN)
    assert told.run(1.1, lambda: edge.core.connected)
    told.run(0.1)
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers
    told.converge()


def test_a_cloud_that_restarts_costs_the_tensors_of_about_a_second():
    told = simulation()
    (edge,) = told.edges
    before = stream(told, 1)
    told.stop_cloud()
    told.start_cloud()
    during = stream(told, 1)
    after = stream(told, 1)
    assert outcomes(told, before)[:-2] == before[:-2]
    assert 0.3 <= len(outcomes(told, during)) / len(during) <= 0.7  # it asks after half a second of silence
    assert outcomes(told, after) == after
    assert edge.lost_links == 0
    told.converge()


def test_an_edge_that_restarts_at_the_same_address_begins_a_new_session_at_once():
    told = simulation()
    (edge,) = told.edges
    stream(told, 1)
    told.restart_edge(edge)
    assert told.run(0.1, lambda: edge.core.connected)
    numbers = stream(told, 1)
    assert numbers[0] == 0  # numbers start again, and nothing of the former life is in the way
    assert outcomes(told, numbers) == numbers
    assert told.cloud.open_sessions == 1
    told.converge()


def test_a_belated_hello_of_an_edges_former_life_costs_half_a_second():
    told = simulation()
    (edge,) = told.edges
    former = nodes.hello_of(edge.core)
    told.restart_edge(edge)
    assert told.run(1, lambda: told.quiet)
    tell(told, edge.address, former)  # replaces the new session
    numbers = stream(told, 2)
    assert outcomes(told, numbers)[-25:] == numbers[-25:]
    assert edge.lost_links == 0
    told.converge()


def test_a_belated_welcome_of_a_cloud_that_has_restarted_costs_half_a_second():
    told = simulation()
    (edge,) = told.edges
    former = nodes.welcome_of(edge.core)
    told.stop_cloud()
    told.start_cloud()
    assert told.run(6, lambda: told.quiet)
    told.network.send(edge.down, [Parcel(CLOUD, edge.address, former, Origin.REPLAYED)], told.now)
    told.run(0.01)
    numbers = stream(told, 2)
    assert outcomes(told, numbers)[-25:] == numbers[-25:]
    told.converge()


def test_an_edge_that_moves_to_another_address_goes_on_in_a_new_session():
    told = simulation()
    (edge,) = told.edges
    stream(told, 0.5)
    for _ in range(3):
        told.move_edge(edge)
        stream(told, 1)
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers
    assert told.cloud.open_sessions == 4
    told.run(31)
    assert told.cloud.open_sessions == 1  # the former addresses are silent
    told.converge()


def test_an_edge_that_moves_back_goes_on_in_its_first_session():
    told = simulation()
    (edge,) = told.edges
    home, first = edge.address, edge.core.session
    told.move_edge(edge)
    stream(told, 1)
    assert edge.core.session != first
    edge.address = home
    stream(told, 1)
    assert edge.core.session == first
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers
    told.run(31)
    told.converge()


@pytest.mark.parametrize("window", [10, 256])
def test_where_only_control_messages_pass_for_long_one_tensor_is_the_price(window):
    told = simulation(tensor_window=window)
    (edge,) = told.edges
    stream(told, 0.2)
    told.passes = lambda datagram: datagram[2] != Kind.SYMBOL
    stream(told, 60)
    lost = edge.core._next_tensor
    assert lost > 256 + 20
    told.passes = lambda datagram: True
    numbers = stream(told, 2)
    assert outcomes(told, numbers) == numbers[1:]
    assert told.cloud.counts["out_of_window"] > 0
    told.converge()


def test_an_edge_starved_of_memory_by_others_is_not_locked_out_for_good():
    told = simulation(edges=2, tensor_window=10, reassembly_bytes=24 * 30, reorder_s=10.0)
    greedy, meek = told.edges
    for _ in range(30):
        told.send_tensor(greedy)
        told.run(0.001)
        told.send_tensor(meek)
        told.run(0.02)
    told.converge()


def test_a_back_end_that_is_too_slow_answers_what_it_can_and_recovers():
    told = simulation(service_s=0.3, pending_tensors=3)
    (edge,) = told.edges
    numbers = stream(told, 3)
    answered = outcomes(told, numbers)
    assert 0.1 <= len(answered) / len(numbers) <= 0.3
    assert edge.lost_links == 0  # it answers hellos all the while
    assert told.cloud.tensors["overloaded"] > 0
    told.converge()


def test_a_cloud_that_leaves_answers_what_it_has_and_the_edge_finds_the_next_one():
    told = simulation(service_s=0.1)
    (edge,) = told.edges
    numbers = [told.send_tensor(edge)]
    told.run(0.03)
    told.cloud.leave()
    assert told.run(0.5, lambda: not told.cloud.open_tensors and not told.cloud.unacknowledged)
    assert outcomes(told, numbers) == numbers
    told.cloud.say_goodbye()
    told._drain_cloud(told.cloud)
    told.stop_cloud()
    told.run(0.1)
    assert (edge.core.connected, edge.lost_links) == (False, 1)
    told.start_cloud()
    assert told.run(1.1, lambda: edge.core.connected)
    told.converge()


def test_refused_by_a_cloud_that_restarted_and_filled_up_an_edge_waits_and_comes_back():
    told = simulation(sessions=1)
    (edge,) = told.edges
    told.stop_cloud()
    told.start_cloud()
    other, home = told.new_core("another"), ("another", 1)
    told.hear[home] = lambda datagram: other.receive(wire.batch_of([datagram], [None]), told.now)
    tell(told, home, nodes.hello_of(other))
    stream(told, 2)
    assert set(edge.refusals) == {"full"}
    assert not edge.core.connected  # so that no tensor is sent in vain
    assert told.send_tensor(edge) is None
    tell(told, home, nodes.control_by(other, Bye()))
    assert told.run(1.1, lambda: edge.core.connected)
    told.converge()


def test_a_storm_of_hellos_from_everywhere_keeps_no_edge_out_for_longer_than_its_sessions_live():
    told = simulation(sessions=10)
    for n in range(300):
        tell(told, (f"storm {n % 40}", 1), nodes.hello_of(told.new_core("storm")))
    assert told.cloud.open_sessions == 10
    assert nodes.timers_of(told.cloud) <= 3
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers  # who is in stays in
    told.converge()


def test_two_edges_behind_one_address_throw_each_other_out_within_bounds_until_one_goes():
    told = simulation(edges=2)
    stayer, goer = told.edges
    goer.address = stayer.address
    for _ in range(100):
        told.send_tensor(stayer)
        told.send_tensor(goer)
        told.run(0.05)
        assert told.cloud.open_sessions <= 2  # one, and what goer left at its own address
        assert nodes.timers_of(told.cloud) < 300
    told.edges.remove(goer)
    told.run(31)
    told.converge()
