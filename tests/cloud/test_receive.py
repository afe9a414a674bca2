"""Runs from the kernel are cut into the datagrams that were sent, each with its length and sender."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections import deque
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_cloud import receive
from gradfec_cloud.receive import BATCH, BUFFER_BYTES, MAX_ROWS, UDP_GRO, WIDTH_BYTES, Receiver
from gradfec_common.wire import MIN_WIDTH_BYTES
from gradfec_edge.udp import MAX_RUN_BYTES, MAX_SEGMENTS, Sender

SOON_S = 60.0  # a safety net
ALICE, BOB = ("192.0.2.1", 1000), ("192.0.2.2", 1000)


class Kernel:
    """A socket that hands over what it is told to: runs (bytes, segment length or None, peer), or errors."""

    def __init__(self, runs=()):
        self.waiting = deque(runs)
        self.calls = 0

    def setsockopt(self, *option):
        """Know every option."""

    def recvmsg_into(self, buffers, ancillary_bytes):
        data, segment, peer = self._next()
        buffers[0][: len(data)] = data
        told = [] if segment is None else [(socket.IPPROTO_UDP, UDP_GRO, struct.pack("=i", segment))]
        return len(data), told, 0, peer

    def recvfrom_into(self, buffer):
        data, _, peer = self._next()
        cut = data[: len(buffer)]
        buffer[: len(cut)] = cut
        return len(cut), peer

    def _next(self):
        self.calls += 1
        if not self.waiting:
            raise BlockingIOError
        if isinstance(self.waiting[0], OSError):
            raise self.waiting.popleft()
        return self.waiting.popleft()


def datagrams_of(receiver):
    """Take all that waits: (bytes, sender) of each datagram, as they came."""
    found = []
    for batch in iter(receiver.receive, None):
        assert batch.buffer.flags.c_contiguous
        assert batch.buffer.shape[1] >= MIN_WIDTH_BYTES
        assert len(batch.buffer) == len(batch.lengths) == len(batch.senders)
        assert len(set(batch.peers)) == len(batch.peers)
        found += [(batch.datagram(row).tobytes(), batch.peer(row)) for row in range(len(batch.lengths))]
    return found


def cut(runs):
    """Cut runs by the definition."""
    found = []
    for data, segment, peer in runs:
        step = segment or max(len(data), 1)
        found += [(data[at : at + step][:WIDTH_BYTES], peer) for at in range(0, max(len(data), 1), step)]
    return found


@st.composite
def some_runs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    runs = []
    for _ in range(draw(st.integers(1, 10))):
        segment = draw(st.sampled_from([438, 438, 438, 1, 11, 39, 40, 41, 500, 1200, 1201, 2048, 2049, 9000]))
        count = draw(st.integers(1, min(64, 65_507 // segment)))
        short = int(rng.integers(0, segment)) if draw(st.booleans()) else 0
        size = max(count * segment - short, 0)
        single = count == 1
        peer = draw(st.sampled_from([ALICE, BOB]))
        runs.append((rng.bytes(size), None if single else segment, peer))
    return runs


@given(some_runs())
@settings(max_examples=60)
def test_any_runs_of_any_peers_are_cut_into_their_datagrams(runs):
    assert datagrams_of(Receiver(Kernel(runs))) == cut(runs)


@given(st.lists(st.binary(max_size=2100), max_size=8))
@settings(max_examples=40)
def test_without_runs_both_paths_take_the_same(datagrams):
    runs = [(data, None, ALICE) for data in datagrams]
    assert datagrams_of(Receiver(Kernel(runs), batched=False)) == datagrams_of(Receiver(Kernel(runs))) == cut(runs)


def test_an_empty_datagram_is_one():
    assert datagrams_of(Receiver(Kernel([(b"", None, ALICE)]))) == [(b"", ALICE)]


def test_a_tensors_runs_are_a_matrix_in_place_with_short_ones_among_them():
    runs = [(bytes(64 * 438), 438, ALICE), (bytes(45), None, BOB), (bytes(20 * 438 - 100), 438, BOB)]
    receiver = Receiver(Kernel(runs))
    receiver.receive()
    receiver._socket.waiting.extend(runs)
    batch = receiver.receive()  # by now it knows how long a row is
    assert batch.buffer.shape == (64 + 1 + 20, 438)
    assert np.shares_memory(batch.buffer, receiver._buffer)
    assert batch.lengths[[0, 64, 65, 84]].tolist() == [438, 45, 438, 338]


def test_one_batch_is_bounded_in_calls_in_datagrams_and_in_bytes():
    calls = Receiver(Kernel([(b"x", None, ALICE)] * 1000))
    assert len(calls.receive().lengths) == BATCH
    tiny = Receiver(Kernel([(bytes(64 * 40), 40, ALICE)] * 1000))
    tiny.receive()  # by now it takes rows to be as short
    assert MAX_ROWS <= len(tiny.receive().lengths) < MAX_ROWS + 128
    large = Receiver(Kernel([(bytes(65_507), None, ALICE)] * 1000))
    assert len(large.receive().lengths) <= BUFFER_BYTES // 65_507 + 1


def test_an_error_of_an_answer_does_not_hide_what_came_and_cannot_be_read_for_ever():
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    kernel = Kernel([refused, (b"one", None, ALICE), refused, (b"two", None, BOB)])
    assert datagrams_of(Receiver(kernel)) == [(b"one", ALICE), (b"two", BOB)]
    storm = Kernel([refused] * 1000)
    assert Receiver(storm).receive() is None
    assert storm.calls == BATCH


def test_a_kernel_without_runs_is_read_plain(monkeypatch):
    monkeypatch.setattr(receive, "UDP_GRO", 9999)  # an option that no kernel has
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        assert not Receiver(bound).batched
    assert not Receiver(Kernel(), batched=False).batched


@pytest.mark.parametrize("sent_batched", [True, False])
@pytest.mark.parametrize("read_batched", [True, False])
def test_what_two_peers_send_at_once_arrives_whole_and_in_order_on_every_pair_of_paths(sent_batched, read_batched):
    with ExitStack() as stack:
        bound, *clients = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3))
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        receiver = Receiver(bound, batched=read_batched)
        sent = {}
        for number, client in enumerate(clients):
            client.bind(("127.0.0.1", 0))
            sent[client.getsockname()] = np.random.default_rng(number).integers(0, 256, (130, 438), np.uint8)
        got = {peer: [] for peer in sent}
        at = 0
        while at < 130:  # a run of each in turn, read before the buffer can be full
            for client, datagrams in zip(clients, sent.values(), strict=True):
                sender, done = Sender(client, batched=sent_batched), 0
                while done < 10:
                    done += sender.send(datagrams[at + done : at + 10], bound.getsockname()).datagrams
                client.sendto(b"a short one", bound.getsockname())
            at += 10
            expected = at + at // 10
            while min(map(len, got.values())) < expected:
                assert select.select([bound], [], [], SOON_S)[0]
                for data, peer in datagrams_of(receiver):
                    got[peer].append(data)
        for peer, datagrams in sent.items():
            assert [data for data in got[peer] if len(data) == 438] == [row.tobytes() for row in datagrams]
            assert got[peer].count(b"a short one") == 13


@pytest.mark.parametrize("batched", [True, False])
def test_the_kernel_says_how_long_each_datagram_has_waited(batched):
    with ExitStack() as stack:
        bound, client = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        receiver = Receiver(bound, batched=batched)
        began = time.monotonic()
        client.sendto(b"first", bound.getsockname())
        time.sleep(0.1)
        client.sendto(b"second", bound.getsockname())
        time.sleep(0.05)
        batch = receiver.receive()
        took = time.monotonic() - began
    first, second = batch.waited_s.tolist()
    assert 0.04 < second < first - 0.09 <= took - 0.09


@pytest.mark.parametrize("off_s", [3600.0, -3600.0, -1.0])
def test_a_step_of_the_wall_clock_is_no_wait(off_s):
    told = [(socket.SOL_SOCKET, receive.SO_TIMESTAMPNS, receive.CAME.pack(int(time.time() - off_s) + 1, 0))]
    kernel = Kernel()
    kernel.recvmsg_into = lambda buffers, _: (1, told, 0, ALICE)
    batch = Receiver(kernel).receive()
    assert not batch.waited_s.any()


def test_a_kernel_without_stamps_says_nothing_of_waits(monkeypatch):
    monkeypatch.setattr(receive, "SO_TIMESTAMPNS", 9999)  # an option that no kernel has
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        receiver = Receiver(bound)
        bound.sendto(b"one", bound.getsockname())
        assert receiver.receive().waited_s.tolist() == [0.0]


def test_the_longest_run_that_an_edge_sends_fits():
    assert MAX_RUN_BYTES < receive.RUN_BYTES
    assert MAX_SEGMENTS <= 128  # of any kernel: what a batch may hold beyond MAX_ROWS
