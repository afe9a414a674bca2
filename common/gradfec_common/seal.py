"""Sealing a session's datagrams, one object a direction: encrypted, authentic, accepted once, under keys that change.

docs/reference/protocol.md specifies it. A sealed datagram is the outer header, which is authentic but readable, the
encrypted body, as long as the body, and the tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag

from gradfec_common import hkdf
from gradfec_common.ciphers import AEADS, NONCE_BYTES, Cipher
from gradfec_common.replay import REPLAY_WINDOW, Counters, ReplayWindow, Verdict, Verdicts
from gradfec_common.wire import MAGIC, OUTER_HEADER, OUTER_HEADER_BYTES, SEAL_BYTES, VERSION, Bytes, Drop, Kind

# With AES-GCM, 2^28 datagrams of up to 2^11 bytes may be sealed with one key before an attacker's advantage over
# guessing exceeds 2^-57 (RFC 9001, section 6.6 and appendix B.1.1; RFC 8446, section 5.5, gives 2^24.5 records of
# 2^14 bytes). Ours have at most 1200 bytes, and a key seals 64 times fewer. ChaCha20-Poly1305 has no limit that
# counters could reach.
REKEY_DATAGRAMS = 2**22
# No session gets there: at a million datagrams a second it would take 146,000 years. All arithmetic stays within int64.
COUNTER_LIMIT = 2**62


# Why a datagram that is not OK is dropped.
UNSEALED = {Verdict.REPLAYED: Drop.REPLAYED, Verdict.TOO_OLD: Drop.TOO_OLD, Verdict.FORGED: Drop.FORGED}


class Epoch:
    """The key of a run of counters. Its own secret is discarded, and only the next epoch's is kept."""

    def __init__(self, secret: bytes, cipher: Cipher, number: int = 0) -> None:
        """Derive the epoch's key and iv, and the next epoch's secret, from the epoch's 32-byte secret."""
        self.number = number
        self._cipher = cipher
        self._next_secret = hkdf.expand(secret, "next")
        self.aead = AEADS[cipher](hkdf.expand(secret, "key"))
        iv = hkdf.expand(secret, "iv", NONCE_BYTES)
        self._head, self._tail = iv[:4], int.from_bytes(iv[4:], "big")

    def next(self) -> Epoch:
        """Return the epoch that follows."""
        return Epoch(self._next_secret, self._cipher, self.number + 1)

    def nonce(self, counter: int) -> bytes:
        """Return the nonce of a counter: the iv xor 4 bytes of zeros and the counter (as RFC 8446, section 5.3)."""
        return self._head + (counter ^ self._tail).to_bytes(8, "big")

    def nonces(self, counters: Counters) -> list[bytes]:
        """Return the nonces of (m,) counters."""
        nonces = np.empty((len(counters), NONCE_BYTES), np.uint8)
        nonces[:, :4] = np.frombuffer(self._head, np.uint8)
        tails = (counters.astype(np.uint64) ^ np.uint64(self._tail)).astype(">u8")
        nonces[:, 4:] = tails.view(np.uint8).reshape(-1, 8)  # (m,) -> (m, 8 bytes)
        return rows_as_bytes(nonces)


class Sealer:
    """Seals what one side of a session sends. Not for use by several threads at once."""

    def __init__(self, secret: bytes, cipher: Cipher, session: int, epoch_datagrams: int = REKEY_DATAGRAMS) -> None:
        """Start at counter 0 with the direction's 32-byte secret, never used by another Sealer."""
        self.counter = 0  # of the next datagram
        self._session = session
        self._epoch = Epoch(secret, cipher)
        self._epoch_datagrams = epoch_datagrams

    def seal(self, kind: Kind, bodies: Bytes) -> Bytes:
        """Seal (m, length) bodies, C-contiguous and length at least 1, into (m, 16 + length + 16) datagrams.

        Counters are consecutive. OverflowError when a session has used them up.
        """
        parts: list[Bytes] = [np.empty((0, bodies.shape[1] + SEAL_BYTES), np.uint8)]
        done = 0
        while done < len(bodies):
            count = min(len(bodies) - done, self._epoch_datagrams - self.counter % self._epoch_datagrams)
            first = self._take(count)
            counters = np.arange(first, first + count)
            parts.append(self._seal_in_epoch(kind, bodies[done : done + count], counters))
            done += count
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def seal_one(self, kind: Kind, body: bytes) -> bytes:
        """Seal one body of any length into a datagram of 32 bytes more; OverflowError as above."""
        counter = self._take(1)
        head = bytes([MAGIC, VERSION, kind, 0]) + self._session.to_bytes(4, "big") + counter.to_bytes(8, "big")
        return head + self._epoch.aead.encrypt(self._epoch.nonce(counter), body, head)

    def _seal_in_epoch(self, kind: Kind, bodies: Bytes, counters: Counters) -> Bytes:
        """Seal bodies under the epoch's key: one call of the library a datagram, all else in columns."""
        headers = np.zeros(len(bodies), OUTER_HEADER)
        headers["magic"], headers["version"], headers["kind"] = MAGIC, VERSION, kind
        headers["session"], headers["counter"] = self._session, counters
        heads = headers.view(f"V{OUTER_HEADER_BYTES}").tolist()
        sealed = map(self._epoch.aead.encrypt, self._epoch.nonces(counters), rows_as_bytes(bodies), heads)
        datagrams = bytearray().join(chain.from_iterable(zip(heads, sealed, strict=True)))
        return np.frombuffer(datagrams, np.uint8).reshape(len(bodies), -1)

    def _take(self, count: int) -> int:
        """Use up `count` counters of one epoch, even if sealing fails, and return the first."""
        first = self.counter
        if first + count > COUNTER_LIMIT:
            raise OverflowError(f"this session has sealed {first} datagrams: open a new one")
        while self._epoch.number < first // self._epoch_datagrams:
            self._epoch = self._epoch.next()
        self.counter = first + count
        return first


class Opener:
    """Opens what the other side of a session has sealed. Not for use by several threads at once."""

    def __init__(
        self,
        secret: bytes,
        cipher: Cipher,
        epoch_datagrams: int = REKEY_DATAGRAMS,
        window: int = REPLAY_WINDOW,
    ) -> None:
        """Start with the direction's 32-byte secret; ValueError for an epoch that is shorter than the window."""
        if epoch_datagrams < window:  # else a datagram within the window could be of an epoch before the previous
            raise ValueError(f"an epoch of {epoch_datagrams} datagrams is shorter than a window of {window}")
        self._window = ReplayWindow(window)
        self._epoch_datagrams = epoch_datagrams
        self._previous: Epoch | None = None
        self._current = Epoch(secret, cipher)
        self._next = self._current.next()  # kept, so that a forgery costs no derivation

    @property
    def newest(self) -> int:
        """The greatest counter that was authentic; -1 before the first."""
        return self._window.newest

    def open(self, datagrams: Bytes) -> tuple[Bytes, Verdicts]:
        """Open (m, length) whole datagrams into (m, length - 32) bodies and a Verdict for each; never raises.

        A body is zeros unless its verdict is OK. The verdicts are those of datagrams that come one by one, except that
        an epoch must be within reach (previous, current, next) when the batch comes. What was seen already is not
        decrypted. Only what is authentic is remembered, moves the window, and moves on to the next epoch.
        """
        count, length = datagrams.shape
        if length < SEAL_BYTES:
            return np.empty((count, 0), np.uint8), np.full(count, Verdict.FORGED, np.uint8)
        claimed = np.ascontiguousarray(datagrams[:, OUTER_HEADER_BYTES - 8 : OUTER_HEADER_BYTES]).view(">u8")[:, 0]
        counters = np.minimum(claimed, np.uint64(COUNTER_LIMIT)).astype(np.int64)  # more would be out of reach as well
        verdicts = self._window.judge(counters)
        bodies = self._decrypt(datagrams, counters, np.flatnonzero(verdicts == Verdict.OK))
        verdicts[verdicts == Verdict.OK] = Verdict.FORGED
        authentic = np.array(sorted(bodies), np.intp)
        verdicts[authentic] = self._window.take_in(counters[authentic])
        self._move_on()
        good = np.flatnonzero(verdicts == Verdict.OK)
        opened = np.frombuffer(b"".join(map(bodies.__getitem__, good.tolist())), np.uint8)
        if len(good) == count:
            return opened.reshape(count, length - SEAL_BYTES), verdicts
        plain = np.zeros((count, length - SEAL_BYTES), np.uint8)
        plain[good] = opened.reshape(len(good), length - SEAL_BYTES)
        return plain, verdicts

    def open_one(self, datagram: bytes) -> bytes | Verdict:
        """Open one datagram into its body, or say why not, as `open` does; never raises."""
        if len(datagram) < SEAL_BYTES:
            return Verdict.FORGED
        head, sealed = datagram[:OUTER_HEADER_BYTES], datagram[OUTER_HEADER_BYTES:]
        counter = int.from_bytes(head[-8:], "big")
        if (verdict := self._window.judge_one(counter)) is not Verdict.OK:
            return verdict
        for epoch in self._within_reach():
            if epoch.number == counter // self._epoch_datagrams:
                break
        else:
            return Verdict.FORGED
        try:
            body = epoch.aead.decrypt(epoch.nonce(counter), sealed, head)
        except InvalidTag:
            return Verdict.FORGED
        self._window.take_in_one(counter)
        self._move_on()
        return body

    def _within_reach(self) -> list[Epoch]:
        return [epoch for epoch in (self._previous, self._current, self._next) if epoch is not None]

    def _move_on(self) -> None:
        """Follow the window into the next epoch."""
        if self._current.number < self._window.newest // self._epoch_datagrams:
            self._previous, self._current, self._next = self._current, self._next, self._next.next()

    def _decrypt(self, datagrams: Bytes, counters: Counters, rows: npt.NDArray[np.intp]) -> dict[int, bytes]:
        """Return the bodies of those datagrams in (m,) `rows` that are authentic, by row."""
        numbers = counters[rows] // self._epoch_datagrams
        bodies: dict[int, bytes] = {}
        for epoch in self._within_reach():
            mine = rows[numbers == epoch.number]
            if len(mine):
                bodies.update(_authentic(epoch, datagrams[mine], counters[mine], mine.tolist()))
        return bodies


def _authentic(epoch: Epoch, datagrams: Bytes, counters: Counters, rows: Iterable[int]) -> dict[int, bytes]:
    """Decrypt (m, length) datagrams of an epoch; return the bodies of the authentic ones under their `rows`."""
    heads = rows_as_bytes(datagrams[:, :OUTER_HEADER_BYTES])
    sealed = rows_as_bytes(datagrams[:, OUTER_HEADER_BYTES:])
    decrypt = epoch.aead.decrypt
    bodies = {}
    for row, nonce, box, head in zip(rows, epoch.nonces(counters), sealed, heads, strict=True):
        try:
            bodies[row] = decrypt(nonce, box, head)
        except InvalidTag:  # noqa: PERF203 - one forgery must not cost the others
            continue
    return bodies


def rows_as_bytes(matrix: Bytes) -> list[bytes]:
    """Return the rows of a (m, length) matrix, each contiguous and of at least one byte, as m bytes objects."""
    rows: list[bytes] = matrix.view(f"V{matrix.shape[1]}")[:, 0].tolist()
    return rows
