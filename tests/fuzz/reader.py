"""Choices from a fuzzer's bytes, and the bytes for given choices: what a target reads, a seed can be written for.

It stands in for atheris's FuzzedDataProvider, which reads numbers from the end: inputs are replayed, and made, without
atheris, and stay what they are with its next version.
"""

from __future__ import annotations

MOST_BYTES = 1301  # of a piece: longer than any datagram may be


class Reader:
    """Reads choices one after the other; once the bytes are used up every number is 0 and every piece empty."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, or as many as there are."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def number(self, size: int = 1) -> int:
        """Return an unsigned number of `size` bytes, big-endian."""
        return int.from_bytes(self.take(size), "big")

    def below(self, bound: int) -> int:
        """Return a number in 0 .. bound - 1, of a byte where that is enough, else of two."""
        return self.number(1 if bound <= 256 else 2) % bound

    def piece(self) -> bytes:
        """Return bytes of a length that is read first."""
        return self.take(self.below(MOST_BYTES))

    def edited(self, original: bytes) -> bytes:
        """Return bytes with up to three changes: bits flipped, cut off, appended, or overwritten."""
        changed = bytearray(original)
        for _ in range(self.below(4)):
            match self.below(4):
                case 0:
                    if changed:
                        changed[self.below(MOST_BYTES) % len(changed)] ^= self.number()
                case 1:
                    del changed[self.below(MOST_BYTES) :]
                case 2:
                    changed += self.piece()
                case 3:
                    at, new = self.below(MOST_BYTES) % (len(changed) or 1), self.take(self.below(9))
                    changed[at : at + len(new)] = new
        return bytes(changed)


class Writer:
    """Writes what a Reader reads."""

    def __init__(self) -> None:
        self.data = b""

    def number(self, value: int, size: int = 1) -> Writer:
        """Write a number of `size` bytes."""
        self.data += value.to_bytes(size, "big")
        return self

    def below(self, value: int, bound: int) -> Writer:
        """Write a number in 0 .. bound - 1."""
        assert value < bound
        return self.number(value, 1 if bound <= 256 else 2)

    def raw(self, content: bytes) -> Writer:
        """Write bytes as they are."""
        self.data += content
        return self

    def piece(self, content: bytes) -> Writer:
        """Write bytes behind their length."""
        return self.below(len(content), MOST_BYTES).raw(content)

    def edits(self, *edits: tuple[int, int]) -> Writer:
        """Write (offset, flip) for each byte to be changed, three at most."""
        self.below(len(edits), 4)
        for offset, flip in edits:
            self.below(0, 4).below(offset, MOST_BYTES).number(flip)
        return self
