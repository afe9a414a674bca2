"""Opening what is sealed: each authentic datagram once, in batches as one by one, whatever comes between them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from tests.fuzz.reader import Reader

from gradfec_common.ciphers import Cipher
from gradfec_common.replay import Verdict
from gradfec_common.seal import Opener, Sealer
from gradfec_common.wire import Kind

SECRET = b"s" * 32
WINDOW, EPOCH = 8, 16  # small, so that inputs of a few bytes get past them
COUNTERS = 80
MOST_BATCHES = 24
LENGTHS = (5, 40)  # of bodies


@lru_cache
def stock(length: int) -> dict[bytes, int]:
    """Return genuine datagrams with their counters."""
    sealed = {}
    for counter in range(COUNTERS):
        sealer = Sealer(SECRET, Cipher.CHACHA20_POLY1305, 7, EPOCH)
        sealer.counter = counter
        sealed[sealer.seal_one(Kind(1 + counter % 2), bytes([counter]) * length)] = counter
    return sealed


def target(data: bytes) -> None:
    """Feed two openers the same datagrams, one in batches, and a third that is a plain set of counters."""
    reader = Reader(data)
    length = LENGTHS[reader.below(len(LENGTHS))]
    known = stock(length)
    genuine = [*known]
    batched, single = (Opener(SECRET, Cipher.CHACHA20_POLY1305, EPOCH, WINDOW) for _ in range(2))
    newest, seen = -1, set()
    for _ in range(MOST_BATCHES):
        if not reader.more:
            break
        size = len(genuine[0])
        batch = []
        for _ in range(1 + reader.below(6)):
            datagram = genuine[reader.below(len(genuine))]
            if not reader.below(4):
                datagram = reader.edited(datagram)[:size].ljust(size, b"\0")
            batch.append(datagram)
        reach = [newest // EPOCH + i for i in (-1, 0, 1)] if newest >= 0 else [0, 1]
        bodies, verdicts = batched.open(np.frombuffer(b"".join(batch), np.uint8).reshape(len(batch), -1))
        for datagram, body, verdict in zip(batch, bodies, verdicts.tolist(), strict=True):
            counter = int.from_bytes(datagram[8:16], "big")
            expected = verdict_of(counter, newest, seen, authentic=datagram in known)
            alone = single.open_one(datagram)
            assert (alone if isinstance(alone, Verdict) else Verdict.OK) == expected
            if expected is Verdict.OK:
                assert alone == bytes([counter]) * length
                newest = max(newest, counter)
                seen.add(counter)
            if (verdict == Verdict.OK) != (
                expected is Verdict.OK
            ):  # judged by the epochs within reach before the batch
                assert counter // EPOCH not in reach
                assert verdict == Verdict.FORGED
                return  # from here on the two have seen different things
            assert body.tobytes() == (bytes([counter]) * length if verdict == Verdict.OK else bytes(length))
        assert batched.newest == single.newest == newest
    for length in (0, 31):
        assert single.open_one(bytes(length)) is Verdict.FORGED
        assert batched.open(np.zeros((2, length), np.uint8))[1].tolist() == [Verdict.FORGED] * 2


def verdict_of(counter: int, newest: int, seen: set[int], *, authentic: bool) -> Verdict:
    """Say what section 4.4 of docs/reference/protocol.md says."""
    if counter <= newest - WINDOW:
        return Verdict.TOO_OLD
    if counter in seen:
        return Verdict.REPLAYED
    if abs(counter // EPOCH - max(newest, 0) // EPOCH) > 1 or not authentic:
        return Verdict.FORGED
    return Verdict.OK
