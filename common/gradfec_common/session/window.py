"""The window of tensor numbers that may begin in a session."""

from __future__ import annotations

from gradfec_common.wire import Drop


class NumberWindow:
    """The numbers around the newest tensor of a session, and which of them are finished.

    An edge counts its tensors up, and its datagrams may be reordered, but not by many tensors. So a number that is far
    behind is late. A number that is far ahead may be an error or a lie. If the window followed it, all tensors that are
    on their way would be late. But it may also be true, after a long silence of the edge. So the first such
    number is refused, and the window moves when a second one follows it closely.
    """

    def __init__(self, size: int) -> None:
        self.newest = -1
        self._size = size
        self._strayed = -1  # the last number that was too far ahead
        self._finished: set[int] = set()

    def refusal(self, number: int) -> Drop | None:
        """Return why a tensor of that number may not begin now, if so."""
        if number in self._finished or number < self.newest - self._size:
            return Drop.LATE
        if 0 <= self.newest < number - self._size:
            follows = 0 < number - self._strayed <= self._size
            self._strayed = number
            if not follows:
                return Drop.OUT_OF_WINDOW
        return None

    def begin(self, number: int) -> bool:
        """Note that a tensor has begun; return whether it is the newest."""
        is_newest = number > self.newest
        self.newest = max(self.newest, number)
        return is_newest

    def finish(self, number: int) -> None:
        """Note that a tensor is over: it does not begin again."""
        self._finished.add(number)
        if len(self._finished) > 2 * self._size:  # what lies before the window is late in any case
            self._finished = {n for n in self._finished if n >= self.newest - self._size}
