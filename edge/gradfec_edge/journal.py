"""What became of each frame: one record a frame, in the results file and in the totals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gradfec_common.heads import WHOLE, Answer, Head
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.wire import Result
from gradfec_edge.frames import Frame
from gradfec_edge.story import Record, Sent, Story
from gradfec_host.results import ResultsFile
from gradfec_host.wall_clock import UnixTime, rfc3339, unix_time

OnAnswer = Callable[[Frame, Answer | None], object]


@dataclass
class Unsure:
    """The looks at a frame whose first answer was unsure."""

    first: Story
    second: Story | None = None  # once it is on its way

    @property
    def are_over(self) -> bool:
        """Whether nothing more will be heard of either."""
        return self.first.is_over and self.second is not None and self.second.is_over


class Journal:
    """Keeps the frames in flight and writes each one's record once its story is over."""

    def __init__(
        self,
        results: ResultsFile | None,
        head: Head,
        on_story: Callable[[Story], None],
        remarks: Record | None = None,
        clock: UnixTime = unix_time,
        on_answer: OnAnswer | None = None,
    ) -> None:
        """Write to `results`, if any, and tell each story to `on_story`; `remarks` are in all records.

        `clock` turns time.monotonic() into the time of day. `on_answer` gets each frame's answer as soon as it is
        there, before its story is over; or None, once it is clear that there will be none.
        """
        self._remarks, self._clock = remarks or {}, clock
        self.outcomes: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()
        self.second_looks: Counter[str] = Counter()
        self._results = results
        self._head, self._on_story = head, on_story
        self._on_answer = on_answer or (lambda *_: None)
        self._sent: dict[int, Story] = {}  # by tensor
        self._unsure: dict[int | None, Unsure] = {}  # by the first look's tensor

    @property
    def has_results(self) -> bool:
        """Whether there is a results file."""
        return self._results is not None

    def sent(self, frame: Frame, sent: Sent, stages_ms: dict[str, float], first_tensor: int | None = None) -> None:
        """Note that a frame is being sent, for a second look if it has a `first_tensor`."""
        story = self._sent[sent.tensor] = Story(frame, self._head.no_answer, sent, stages_ms)
        if first_tensor is not None:
            looks = self._unsure[first_tensor]
            story.first, looks.second = looks.first, story

    def on_its_way(self, tensor: int) -> Story:
        """Return the story of a tensor that was sent."""
        return self._sent[tensor]

    def answered(self, event: Answered, *, unsure: bool = False) -> None:
        """Note the answer, and when it came. If it is `unsure`, a second look follows, or `no_look`."""
        story = self._sent[event.tensor]
        story.ended_at = time.monotonic()
        story.latency_ms = 1000 * (story.ended_at - story.frame.captured_at)
        story.answer = event.answer.placed(story.as_sent.part if story.as_sent else WHOLE)
        if unsure:
            self._unsure[event.tensor] = Unsure(story)
        else:
            stands = story if story.first is None or _is_whole(event.result) else story.first
            self._on_answer(stands.frame, stands.answer)

    def no_look(self, first_tensor: int | None) -> Story | None:
        """Note that there will be no second look after all, and write the frame's record if it is over."""
        story = self._unsure.pop(first_tensor).first
        self._on_answer(story.frame, story.answer)
        return self._write(story) if story.is_over else None

    def closed(self, event: Closed) -> Story | None:
        """Note the end of a tensor. If its frame is over, write its record, and return its story."""
        story = self._sent.pop(event.tensor)
        story.result, story.report, story.sent, story.is_over = event.result, event.report, event.sent, True
        looks = self._unsure.get((story.first or story).tensor)
        if looks is None:
            return self._write(story)
        return self._stands(looks) if looks.are_over else None

    def _stands(self, looks: Unsure) -> Story:
        """Write the record of a frame after two looks: the second one's answer stands, if it is of a whole picture."""
        first, second = looks.first, looks.second
        assert second, "both are over"  # noqa: S101
        del self._unsure[first.tensor]
        if second.result is not None and _is_whole(second.result):
            second.other = first
            return self._write(second)
        first.other = second
        if second.result is None:  # otherwise it was told with the second answer
            self._on_answer(first.frame, first.answer)
        return self._write(first)

    def end(self) -> list[Story]:
        """Write the records of frames that still await a second look, and return their stories."""
        return [story for tensor in list(self._unsure) if (story := self.no_look(tensor))]

    def unsent(self, frame: Frame) -> Story:
        """Write the record of a frame that was never sent, because the cloud was away, and return its story."""
        return self._write(Story(frame, self._head.no_answer))

    def fell_back(self, frame: Frame, answer: Answer, model: str, stages_ms: dict[str, float]) -> Story:
        """Write the record of a frame that a model on the edge answered, and return its story."""
        now = time.monotonic()
        self._on_answer(frame, answer)
        latency_ms = 1000 * (now - frame.captured_at)
        return self._write(
            Story(frame, answer, stages_ms=stages_ms, latency_ms=latency_ms, ended_at=now, fallback=model)
        )

    def _write(self, story: Story) -> Story:
        if not story.ended_at:  # no answer came
            story.ended_at = time.monotonic()
            self._on_answer(story.frame, None)
        if self._results:
            when = {"time": rfc3339(self._clock(story.ended_at))}
            self._results.write(when | story.record() | self._remarks)
        self.outcomes[story.outcome] += 1
        if story.second_look:
            self.second_looks[story.second_look] += 1
        for one in story.looks:
            self.packets.update({name: count or 0 for name, count in one.packets.items()})
        self.datagrams.update({name: count or 0 for name, count in story.datagrams.items()})
        self._on_story(story)
        return story


def _is_whole(result: Result) -> bool:
    """Return whether the network has seen the picture: of one that is not whole, it has seen nothing."""
    return result.outcome == "complete"
