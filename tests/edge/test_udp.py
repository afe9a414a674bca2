"""Runs of datagrams: a receiver gets the same whether the kernel cuts them or each is sent by itself."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_edge import udp
from gradfec_edge.udp import MAX_RUN_BYTES, MAX_SEGMENTS, Sender, Sent, can_segment

SOON_S = 60.0  # a safety net


@pytest.fixture(scope="module")
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(SOON_S)
        yield bound


@pytest.fixture(scope="module")
def sending() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        yield opened


def matrix(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, length), np.uint8)


def captured(sender, datagrams, receiver):
    """Send all, run by run, and return what was received and how long the runs were."""
    got, runs = [], []
    while len(got) < len(datagrams):
        count, taken = sender.send(datagrams[len(got) :], receiver.getsockname())
        assert taken
        runs.append(count)
        got += [receiver.recv(2048) for _ in range(count)]
    return got, runs


@given(st.integers(1, 150), st.integers(1, 1200), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_both_paths_give_the_same_datagrams_in_the_same_order(receiver, sending, count, length, seed):
    datagrams = matrix(count, length, seed)
    expected = [row.tobytes() for row in datagrams]
    for batched in (True, False):
        got, runs = captured(Sender(sending, batched=batched), datagrams, receiver)
        assert got == expected
        assert sum(runs) == count
        assert max(runs) <= (min(MAX_SEGMENTS, MAX_RUN_BYTES // length) if batched else 1)


def test_where_the_kernel_can_a_call_takes_many_datagrams(receiver, sending):
    if not can_segment(sending):
        pytest.skip("this kernel has no UDP_SEGMENT")
    assert captured(Sender(sending), matrix(150, 438), receiver)[1] == [64, 64, 22]
    assert captured(Sender(sending), matrix(70, 1200), receiver)[1] == [54, 16]  # 65,000 B a call


def test_plain_is_one_datagram_a_call_whatever_the_kernel_can(receiver, sending):
    assert captured(Sender(sending, batched=False), matrix(5, 438), receiver)[1] == [1] * 5


def test_a_kernel_without_it_is_served_plain(receiver, sending, monkeypatch):
    monkeypatch.setattr(udp, "UDP_SEGMENT", 9999)  # an option that no kernel has
    sender = Sender(sending)
    assert not sender.batched
    assert captured(sender, matrix(5, 438), receiver)[1] == [1] * 5


class Failing:
    """A socket whose sendmsg fails with one error, and its sendto with another, or not at all."""

    def __init__(self, real, of_runs, of_single=None):
        self.real, self.of_runs, self.of_single = real, of_runs, of_single

    def setsockopt(self, *option):
        """Know every option."""

    def sendmsg(self, *run):
        raise OSError(self.of_runs, "no")

    def sendto(self, *datagram):
        if self.of_single:
            raise OSError(self.of_single, "no")
        return self.real.sendto(*datagram)


@pytest.mark.parametrize("number", sorted(udp.CANNOT_SEGMENT), ids=errno.errorcode.get)
def test_a_device_that_cannot_is_served_plain_from_then_on_and_nothing_is_lost(receiver, sending, number):
    sender, datagrams = Sender(Failing(sending, number)), matrix(5, 438)
    assert sender.batched
    got, runs = captured(sender, datagrams, receiver)
    assert (got, runs, sender.batched) == ([row.tobytes() for row in datagrams], [1] * 5, False)


def test_another_error_costs_the_run_and_says_how_many_that_are(sending):
    sender = Sender(Failing(sending, errno.ENETUNREACH, errno.ENETUNREACH))
    assert sender.send(matrix(100, 438), ("127.0.0.1", 9)) == Sent(64, taken=False)
    assert sender.batched
    assert sender.send(matrix(1, 438), ("127.0.0.1", 9)) == Sent(1, taken=False)


def test_a_single_datagram_that_is_too_long_for_the_kernel_is_counted_and_changes_nothing(sending):
    sender = Sender(Failing(sending, errno.EMSGSIZE, errno.EMSGSIZE))
    assert sender.send(matrix(1, 438), ("127.0.0.1", 9)) == Sent(1, taken=False)
    assert sender.batched


@pytest.mark.parametrize("count", [1, 2])
def test_a_full_send_buffer_is_the_callers_to_wait_for(sending, count):
    sender = Sender(Failing(sending, errno.EAGAIN, errno.EAGAIN))
    with pytest.raises(BlockingIOError):
        sender.send(matrix(count, 438), ("127.0.0.1", 9))
    assert sender.batched


def test_ipv6_is_batched_as_well():
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s,
    ):
        try:
            end.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        end.settimeout(SOON_S)
        datagrams = matrix(70, 438)
        got, runs = captured(Sender(s), datagrams, end)
        assert got == [row.tobytes() for row in datagrams]
        assert runs == ([64, 6] if can_segment(s) else [1] * 70)
