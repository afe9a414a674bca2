"""The source whose frames are questions of Frigate's: its socket, on a thread of its own.

Each picture gets one reply, within the time that Frigate waits for it: what was found, or an empty table. After that
time Frigate would open a new socket and ask for the model again, which costs it more than a frame without boxes.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections import Counter, deque
from typing import NamedTuple

import zmq

from gradfec_common.errors import GradfecError
from gradfec_common.heads import Answer, Boxes
from gradfec_edge.frames import FOREVER_S, Frame, Image, Warn
from gradfec_edge.frigate.protocol import MOST_BYTES, Parts, RequestError, read_request, reply_with, where_of

IN_TIME = 0.9  # of the time that Frigate waits: the rest is for the way back
MOST_WAITING = 16  # questions without a reply
LAST_REPLIES_MS = 200
CLOSE_WAIT_S = 2.0
NOTHING = Boxes(())


class Question(NamedTuple):
    """A picture that needs a reply by `due`, of time.monotonic(), to be sent to `route`."""

    route: Parts
    number: int
    image: Image
    asked_at: float
    due: float


class Detector:
    """Hands Frigate's pictures to the edge, and the answers to Frigate."""

    live = True
    interval: float | None = None
    trouble = ""  # whether somebody asks is not the edge's business

    def __init__(self, url: str, warn: Warn) -> None:
        """Wait for questions; UsageError for a wrong `url`, GradfecError if nothing can be bound there."""
        where = where_of(url)
        self.name, self.within_s, self.skipped = url, IN_TIME * where.timeout_s, 0
        self.replies: Counter[str] = Counter()  # by outcome; each is counted by one thread only
        self._warn, self._refusing = warn, False
        self._changed = threading.Condition()
        self._unanswered: dict[int, Question] = {}  # the oldest first, which is also the one that is due first
        self._untaken: dict[int, Question] = {}
        self._ready: deque[Parts] = deque()  # messages to be sent
        self._number = 0
        self._closed = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)  # several detectors of one Frigate may ask at a time
        self._socket.setsockopt(zmq.LINGER, LAST_REPLIES_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        self._socket.setsockopt(zmq.IPV6, 1)
        try:
            self._socket.bind(where.endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(0)
            raise GradfecError(f"cannot listen at {url}: {error.strerror}") from None
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._woken, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name=f"detector {url}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._poller.poll(self._patience_ms())
                self._sleep_again()
                self._receive()
                self._give_up(time.monotonic())
                self._send()
        finally:  # even if this thread crashes, next_frame() must not wait forever
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._give_up(math.inf)
            self._send()
            self._context.destroy()
            self._wake.close()
            self._woken.close()

    def _patience_ms(self) -> int | None:
        with self._changed:
            oldest = next(iter(self._unanswered.values()), None)
        return None if oldest is None else max(0, round(1000 * (oldest.due - time.monotonic())))

    def _sleep_again(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)

    def _receive(self) -> None:
        for _ in range(MOST_WAITING):  # questions without end must not hold up the replies
            if not self._socket.poll(0, zmq.POLLIN):
                return
            message = self._socket.recv_multipart()
            if b"" not in message:  # neither a REQ nor like one: nothing can be sent back
                self.replies["refused"] += 1
                continue
            behind = message.index(b"") + 1  # an envelope, an empty part, the request
            self._read(message[:behind], message[behind:], time.monotonic())

    def _read(self, route: Parts, request: Parts, now: float) -> None:
        try:
            read = read_request(request)
        except RequestError as error:
            if not self._refusing:
                self._warn(f"{self.name}: {error}; such pictures get empty answers")
            self._refusing = True
            self._end(route, "refused", NOTHING)
            return
        if isinstance(read, list):
            self._ready.append(route + read)
            return
        self._refusing = False
        with self._changed:
            question = Question(route, self._number, read, now, now + self.within_s)
            self._number += 1
            self._unanswered[question.number] = question
            self._untaken[question.number] = question
            self._changed.notify_all()
            crowded = len(self._unanswered) > MOST_WAITING
        if crowded:
            self._drop(next(iter(self._unanswered)), "busy")

    def _give_up(self, now: float) -> None:
        with self._changed:
            late = [number for number, question in self._unanswered.items() if question.due <= now]
        for number in late:
            self._drop(number, "late")

    def _drop(self, number: int, outcome: str) -> None:
        with self._changed:
            question = self._unanswered.pop(number, None)
            self.skipped += self._untaken.pop(number, None) is not None
        if question:
            self._end(question.route, outcome, NOTHING)

    def _end(self, route: Parts, outcome: str, answer: Boxes) -> None:
        self.replies[outcome] += 1
        self._ready.append(route + reply_with(answer))

    def _send(self) -> None:
        while self._ready:
            self._socket.send_multipart(self._ready.popleft())  # a ROUTER drops messages whose receiver has gone

    def next_frame(self, timeout: float = FOREVER_S) -> Frame | None:
        """Return the oldest picture that was not taken yet, or wait at most `timeout` seconds for one."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._untaken) or self._closed, timeout)
            if self._closed or not self._untaken:
                return None
            question = self._untaken.pop(next(iter(self._untaken)))
        return Frame(question.number, self.name, question.image, question.asked_at)

    def reply(self, frame: Frame, answer: Answer | None) -> None:
        """Send what was found in a frame, or an empty table if there is no answer; nothing if it is too late."""
        with self._changed:
            question = self._unanswered.pop(frame.number, None)
        if question is None:
            return
        found = answer if isinstance(answer, Boxes) else None
        self._end(question.route, "unanswered" if found is None else "answered", found or NOTHING)
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    @property
    def ended(self) -> bool:
        """Whether it was closed, the only way in which it ends."""
        return self._closed

    def close(self) -> None:
        """Reply to all that wait, with empty tables, and let go of the port."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # it has ended
            self._wake.send(b"\0")
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_WAIT_S)
