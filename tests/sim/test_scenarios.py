"""Certain misfortunes, each with what it may cost: the edge and the cloud find each other again, soon."""

import itertools

import numpy as np
import pytest
from tests.common.small_tensors import FEC_CODES

from gradfec_cli.channel import ChannelSettings
from gradfec_common import wire
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.session.events import CloudLimits
from gradfec_common.transmit import room_for
from gradfec_common.wire import Bye, Kind

from . import nodes
from .attackers import Greedy, Insider
from .ledger import watched
from .network import CLEAN, DEAD, Origin, Parcel, Weather
from .nodes import CLOUD
from .story import Story
from .swarm import QUANTISERS_USED, Swarm, content_of, draw_coded, most_held


@pytest.fixture(autouse=True)
def _watched():
    with watched():
        yield


def simulation(edges=1, service_s=0.01, swarm=None, **cloud):
    """A story in which nothing goes wrong by itself."""
    told = Story(1, Swarm(edges=edges, service_s=service_s, cloud=CloudLimits(**cloud), **(swarm or {})))
    assert told.run(1, lambda: told.quiet)
    return told


def tell(told, address, *datagrams):
    """Let the cloud hear datagrams from an address, and return what it says there."""
    said = []
    told.hear[address] = said.append
    told.feed_cloud(told.cloud, [Parcel(address, CLOUD, datagram, Origin.REPLAYED) for datagram in datagrams])
    return said


def hello_of(edge):
    """The hello that an edge's session began with."""
    (hello,) = edge.hellos
    return hello


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


def sends(told, *kinds):
    """Let edges send one tensor of each kind in turn: a quantiser, a policy, and how many packets a symbol may hold."""
    rng, pool = np.random.default_rng(1), []
    for quantiser, policy, most in kinds:
        coded = draw_coded(rng, quantiser, told.grid)
        room = room_for(quantiser.parameter_bytes, most)
        plan = policy.plan(rng.random(told.grid.count, np.float32), coded.packets.sizes, UNKNOWN_LINK, room)
        pool.append(content_of(rng, quantiser, coded, plan, told.grid))
    told.pool = told.large = pool


def test_edges_with_any_quantiser_and_policy_are_served_side_by_side():
    told = simulation(edges=3)
    policies = [read_policy(text, code) for text in ("none", "FEC_50_50", "nested:1,3,5/6") for code in FEC_CODES]
    sends(told, *itertools.product(QUANTISERS_USED, policies, [1, None]))
    numbers = [(edge, number) for edge in told.edges for number in stream(told, 1, edge)]
    told.run(1)
    assert len(numbers) >= len(told.pool)
    assert [edge.answered[number] for edge, number in numbers] == ["complete"] * len(numbers)
    told.converge()


@pytest.mark.parametrize("quantiser", QUANTISERS_USED, ids=lambda quantiser: quantiser.name)
def test_over_a_link_that_loses_half_a_nested_tensor_is_answered_with_its_most_important_packets(quantiser):
    told = simulation()
    (edge,) = told.edges
    sends(told, (quantiser, read_policy("nested:1,5,8/12"), None))
    ((plan, first),) = [(content.plan, content.plan.stripes[0][1]) for content in told.pool]
    told.weather(edge, Weather(ChannelSettings(loss=0.5, delay_s=0.001)), CLEAN)
    numbers = stream(told, 5)
    answered = outcomes(told, numbers)
    assert len(answered) >= 0.98 * len(numbers)
    missing = [edge.sent[number].decided[2] for number in answered]
    assert max(missing) <= plan.kept - len(first.packets)  # any datagram gives back the first class
    assert len(set(missing)) >= 3
    assert {edge.answered[number] for number in answered} == {"complete", "partial"}
    told.converge()


def test_over_a_clean_link_every_tensor_is_answered_complete():
    told = simulation(edges=3)
    for edge in told.edges:
        numbers = stream(told, 1, edge)
        assert len(numbers) >= 20
        assert outcomes(told, numbers, edge) == numbers
        assert set(edge.answered.values()) == {"complete"}
        assert edge.lost_links == 0
        assert {fate for fate, n in edge.core.counts.items() if n} == {"welcome", "pong", "result", "report"}
    told.converge()


def test_over_a_bad_link_the_cloud_tells_of_each_second_look_that_arrives_which_tensor_was_the_first():
    told = simulation(edges=2)
    for edge in told.edges:
        told.weather(edge, Weather(ChannelSettings(loss=0.3, duplicate=0.2, delay_s=0.01, jitter_s=0.01)), CLEAN)
    for _ in range(40):
        for edge in told.edges:
            first = told.send_tensor(edge)
            told.run(0.1)
            if first in edge.answered:
                told.send_tensor(edge, first=first)
        told.run(0.1)
    for edge in told.edges:
        looks = {number: sent.first for number, sent in edge.sent.items() if sent.first is not None}
        answered = outcomes(told, [*looks], edge)
        assert len(looks) > 20 and len(answered) > 0.5 * len(looks)
        assert all(edge.sent[number].finished for number in answered)  # and what is told, `truth` has checked
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


def test_a_cloud_that_restarts_costs_the_tensors_of_about_two_seconds():
    told = simulation()
    (edge,) = told.edges
    before = stream(told, 1)
    told.stop_cloud()
    told.start_cloud()
    start = told.now
    during = stream(told, 1.4)  # it asks after half a second of silence, and finds a new session after two
    assert told.run(1, lambda: len(edge.sessions) == 2)
    assert 1.9 <= told.now - start <= 2.3
    after = stream(told, 1)
    assert outcomes(told, before)[:-2] == before[:-2]
    assert not outcomes(told, during)
    assert outcomes(told, after) == after
    assert edge.lost_links == 1
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
    assert told.cloud.open_sessions == 2  # the former one, of which nobody knows that it is over
    told.run(36)
    assert told.cloud.open_sessions == 1
    told.converge()


def test_a_belated_hello_of_an_edges_former_life_costs_nothing():
    told = simulation()
    (edge,) = told.edges
    former = hello_of(edge)
    told.restart_edge(edge)
    assert told.run(1, lambda: edge.core.connected)
    assert not tell(told, edge.address, former)
    numbers = stream(told, 2)
    assert outcomes(told, numbers) == numbers
    assert len(edge.sessions) == 1
    told.converge()


def test_a_hello_that_is_replayed_to_a_cloud_that_has_restarted_gets_one_welcome_and_no_word_more():
    told = simulation(edges=2)
    hello, strangers = hello_of(told.edges[0]), [("stranger", 1), ("stranger", 2)]
    told.stop_cloud()
    told.start_cloud()
    (welcome,) = tell(told, strangers[0], hello)
    assert (len(welcome) <= len(hello), welcome[2]) == (True, Kind.WELCOME)
    assert not tell(told, strangers[1], hello)
    told.cloud.leave()
    told._drain_cloud(told.cloud)
    told.run(10)
    assert not nodes.sessions_of(told.cloud).keys() - {edge.core.session for edge in told.edges}
    assert told.truth.strays == 1
    told.stop_cloud()
    told.start_cloud()
    told.converge()


def test_a_belated_welcome_of_a_cloud_that_has_restarted_costs_nothing():
    told = simulation()
    (edge,) = told.edges
    former = [parcel.payload for parcel in told.network.handshakes if parcel.payload[2] == Kind.WELCOME]
    told.stop_cloud()
    told.start_cloud()
    assert told.run(10, lambda: told.quiet)
    again = [Parcel(CLOUD, edge.address, welcome, Origin.REPLAYED) for welcome in former]
    told.network.send(edge.down, again, told.now)
    told.run(0.01)
    numbers = stream(told, 2)
    assert outcomes(told, numbers) == numbers
    told.converge()


def test_an_edge_that_moves_to_another_address_goes_on_in_its_session():
    told = simulation()
    (edge,) = told.edges
    stream(told, 0.5)
    home, numbers = edge.address, []
    for _ in range(3):
        told.move_edge(edge)
        numbers += stream(told, 1)
    edge.address = home
    numbers += stream(told, 1)
    assert outcomes(told, numbers) == numbers
    assert (len(edge.sessions), edge.lost_links, told.cloud.open_sessions) == (1, 0, 1)
    told.converge()


def test_an_idle_edge_that_moves_is_found_when_it_asks():
    told = simulation()
    (edge,) = told.edges
    stream(told, 0.2)
    told.run(4)
    told.move_edge(edge)
    assert told.run(6, lambda: told.quiet)
    assert len(edge.sessions) == 1
    told.converge()


def test_datagrams_replayed_from_elsewhere_take_no_session_along():
    told = simulation()
    stream(told, 0.5)
    former = [parcel.payload for parcel in told.network.overheard if parcel.destination == CLOUD]
    assert not tell(told, ("stranger", 1), *former)
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers
    told.converge()


@pytest.mark.parametrize("labels", [False, True])
def test_an_edge_whose_key_is_removed_is_out_until_it_is_back(labels):
    told = simulation(edges=2, swarm={"labels": labels})
    out, other = told.edges
    stream(told, 0.2, out)
    told.change_keys({out.key.id})
    assert told.run(0.1, lambda: not out.core.connected)
    numbers = stream(told, 3, other)
    assert outcomes(told, numbers, other) == numbers
    assert told.send_tensor(out) is None
    told.change_keys(set())
    assert told.run(4, lambda: out.core.connected)
    assert (len(out.sessions), len(other.sessions)) == (2, 1)
    told.converge()


def test_keys_that_change_every_few_datagrams_are_noticed_by_nobody():
    told = simulation(edges=2, swarm={"epoch": 32, "window": 16})
    for edge in told.edges:
        numbers = stream(told, 3, edge)
        assert outcomes(told, numbers, edge) == numbers
        sealers = [sealed.counter for sealed in told.ledger.sealed.values() if sealed.session == edge.core.session]
        assert max(sealers) > 10 * 32
        assert (len(edge.sessions), edge.lost_links) == (1, 0)
    told.converge()


def test_a_session_of_which_more_than_an_epoch_is_lost_is_over_and_another_begins():
    told = simulation(swarm={"epoch": 32, "window": 32})
    (edge,) = told.edges
    told.weather(edge, DEAD, CLEAN)
    stream(told, 1)
    told.weather(edge, CLEAN, CLEAN)
    assert told.run(5, lambda: len(edge.sessions) == 2)
    numbers = stream(told, 1)
    assert outcomes(told, numbers) == numbers
    told.converge()


@pytest.mark.parametrize("attacker", [Greedy, Insider])
@pytest.mark.parametrize("share_key", [False, True])
def test_key_holders_who_take_all_that_they_get_leave_an_edge_its_share(attacker, share_key):
    swarm = {"liars_share_key": share_key}
    told = simulation(edges=2, service_s=0.001, swarm=swarm, sessions=10, sessions_per_key=8, reassembly_bytes=200_000)
    for _ in range(3):
        attacker.strikes = (40,)
        attacker(told, told.now + 3)
    (edge, other), numbers = told.edges, []
    while told.now < 4:
        numbers.append((edge, told.send_tensor(edge)))
        numbers.append((other, told.send_tensor(other)))
        told.run(0.05)
    told.run(3)
    assert all(who.answered[number] for who, number in numbers)
    assert {len(edge.sessions), len(other.sessions)} == {1}
    told.converge()


@pytest.mark.parametrize("window", [10, 256])
def test_where_only_control_messages_pass_for_long_one_tensor_is_the_price(window):
    told = simulation(tensor_window=window)
    (edge,) = told.edges
    stream(told, 0.2)
    told.passes = lambda datagram: datagram[2] != Kind.SYMBOL
    stream(told, 60)
    lost = edge.core._tensors._next_number
    assert lost > 256 + 20
    told.passes = lambda datagram: True
    numbers = stream(told, 2)
    assert outcomes(told, numbers) == numbers[1:]
    assert told.cloud.counts["out_of_window"] > 0
    told.converge()


def test_an_edge_starved_of_memory_by_others_is_not_locked_out_for_good():
    told = simulation(edges=2, tensor_window=10, reassembly_bytes=2 * most_held(Swarm().grid), reorder_s=10.0)
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


def test_a_back_end_that_cannot_keep_up_gives_all_that_it_can_to_frames_that_are_still_awaited():
    told = simulation(edges=2, service_s=0.4)
    one, other = told.edges
    numbers, others = [], []
    for _ in range(100):  # 40 tensors a second for 10 s, of which the back-end has time for 25 in all
        numbers.append(told.send_tensor(one))
        others.append(told.send_tensor(other))
        told.run(0.1)
    assert len(outcomes(told, numbers)) >= 10  # before, 2 of each: those that had waited for the longest came first
    assert len(outcomes(told, others, other)) >= 10
    assert told.cloud.tensors["abandoned"] > 0
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
    other, home = told.new_core("another", told.keys[-1]), ("another", 1)

    def speak(*more):
        told.feed_cloud(
            told.cloud, [Parcel(home, CLOUD, d, Origin.INSIDER) for d in [*other.datagrams_to_send(), *more]]
        )

    def hear(datagram):
        other.receive(wire.batch_of([datagram], [None]), told.now)
        told.ledger.take()

    told.hear[home] = hear
    other.handle_timer(told.now)
    speak()
    speak()
    assert told.cloud.open_sessions == 1
    stream(told, 3)
    assert set(edge.refusals) == {"full"}
    assert not edge.core.connected  # so that no tensor is sent in vain
    assert told.send_tensor(edge) is None
    speak(nodes.message_by(other, Bye()))
    assert told.run(1.1, lambda: edge.core.connected)
    told.converge()


def test_a_storm_of_hellos_that_nobody_follows_up_keeps_no_edge_with_another_key_out():
    told = simulation(edges=2, sessions=10, sessions_per_key=5)
    stayer, comer = told.edges
    for n in range(300):
        core = told.new_core("storm", told.keys[-1])
        core.handle_timer(told.now)
        tell(told, (f"storm {n % 40}", 1), *core.datagrams_to_send())
        if n == 150:
            told.restart_edge(comer)
            assert told.run(0.1, lambda: comer.core.connected)
    assert told.cloud.counts["rate_limit"] == 0
    assert len(nodes.sessions_of(told.cloud)) == 5 + 3  # comer's former session is still there
    assert nodes.timers_of(told.cloud) <= 3
    for edge in told.edges:
        numbers = stream(told, 1, edge)
        assert outcomes(told, numbers, edge) == numbers
    assert len(stayer.sessions) == 1
    told.converge()


def test_two_edges_behind_one_address_do_not_disturb_each_other():
    told = simulation(edges=2)
    stayer, goer = told.edges
    goer.address = stayer.address
    numbers = []
    for _ in range(50):
        numbers += [(edge, told.send_tensor(edge)) for edge in told.edges]
        told.run(0.05)
    told.run(1)
    assert all(number in edge.answered for edge, number in numbers)
    assert {len(edge.sessions) for edge in told.edges} == {1}
    told.edges.remove(goer)
    told.run(31)
    told.converge()
