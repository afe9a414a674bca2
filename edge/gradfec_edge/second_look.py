"""A second look: if the network is unsure of a frame's answer, the edge sends the frame again, as the picture.

Features of a few kilobytes are enough for most frames. The answers that they get wrong are mostly unsure ones, and the
network says so by their scores. To send only these frames' pictures costs a fraction of sending all (a cascade, as in
P. Viola, M. Jones, "Rapid object detection using a boosted cascade of simple features", CVPR 2001).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate
from gradfec_common.quantisers import Coded
from gradfec_common.quantisers.image import ImageCodec
from gradfec_common.wire import Result
from gradfec_edge.adaptation import Adaptation
from gradfec_edge.pipeline import EncodedFrame, Pipeline, Stages
from gradfec_edge.sending import Sending
from gradfec_edge.slots import Outgoing
from gradfec_edge.story import Story

FIRST_BYTES = 2400  # of features: finer ones gain less than second looks do for the same bytes
COARSEST, FINEST = 60, 100  # the pictures' quality: the surer an answer has to be, the finer
FRAMES_SAVED = 20  # whose bytes may be saved up for second looks; with fewer, the score jumps with each of them
SUREST = 0.95  # surer answers are not worth a look, however many bytes were saved
GAIN = 0.4  # of agreement, by a picture that arrives whole: what its parity is worth depends on it
USUAL_BYTES, USUAL_CODING_S = 20_000.0, 0.02  # of a picture, before the first one
NEWEST = 0.2  # the weight of the newest picture
CLOUD_STAGES = ("queue", "decode", "back_end")  # which a picture will take, too


class Limit(Protocol):
    """Below which score an answer is unsure; and how many bytes the features should take, unless the user says."""

    @property
    def first_bytes(self) -> int:
        """The bytes of UDP payload of a first look, without parity."""

    @property
    def most_bytes(self) -> float | None:
        """The bytes that a first look may take with parity; None for what the link carries."""

    @property
    def unsure_below(self) -> float:
        """The score below which an answer is unsure."""

    def sent(self, size: int, *, is_first: bool) -> None:
        """Note the bytes of UDP payload that a look took: the first one at its frame, or the second."""


@dataclass(frozen=True)
class Score:
    """A score that stays the same, whatever that takes."""

    unsure_below: float
    first_bytes = FIRST_BYTES
    most_bytes = None

    def sent(self, size: int, *, is_first: bool) -> None:
        """Do nothing."""


class Savings:
    """The score rises with what frames leave of `frame_bytes` each: what they save pays for the second looks.

    A first look may take half of them, so that there is something to save.
    """

    def __init__(self, frame_bytes: int) -> None:
        """Begin without savings."""
        self.frame_bytes, self._most = frame_bytes, FRAMES_SAVED * frame_bytes
        self._saved = 0
        self.first_bytes, self.most_bytes = min(frame_bytes // 2, FIRST_BYTES), frame_bytes / 2

    @property
    def unsure_below(self) -> float:
        """The score below which an answer is unsure."""
        return SUREST * max(self._saved, 0) / self._most

    def sent(self, size: int, *, is_first: bool) -> None:
        """Note the bytes of UDP payload that a look took: the first one at its frame, or the second."""
        earned = self.frame_bytes if is_first else 0
        self._saved = min(max(self._saved + earned - size, -self._most), self._most)


def picture_quality(unsure_below: float) -> int:
    """Return the quality of the picture for answers that are unsure below a score: a high score asks for a fine one."""
    return round(COARSEST + (FINEST - COARSEST) * unsure_below)


class PictureOfQuality:
    """A target that codes pictures with the `quality` that it is set to."""

    def __init__(self, codec: ImageCodec) -> None:
        self._codec, self.quality = codec, codec.quality

    def encode(self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> tuple[Coded, float]:
        """Code a picture (H, W, 3); also return what it gains."""
        return self._codec.with_quality(self.quality).encode(tensor, grid), GAIN


@dataclass(frozen=True)
class LookOptions:
    """What a camera's second looks are to be: through a pipeline whose target is `picture`, for answers below `limit`.

    There is none whose answer would come later than `within_s` after the frame was taken.
    """

    pipeline: Pipeline
    picture: PictureOfQuality
    limit: Limit
    within_s: float


class Waiting(NamedTuple):
    """A frame that waits for its second look, and how long the cloud was busy with the first."""

    story: Story
    cloud_s: float


class SecondLook:
    """Decides which frames get a second look, and sends their pictures."""

    def __init__(
        self, options: LookOptions, sending: Sending, adaptation: Adaptation | None, spread_s: Callable[[int], float]
    ) -> None:
        """Join the parts; `spread_s` returns over how many seconds bytes are spread."""
        self._options, self._sending, self._adaptation, self._spread_s = options, sending, adaptation, spread_s
        self.is_possible = False  # whether the cloud takes pictures
        self._deadline_s = 0.0  # after which the cloud takes what there is of a picture
        self._picture_bytes, self._coding_s = USUAL_BYTES, USUAL_CODING_S  # smoothed
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self.begun = 0  # second looks

    def connected(self, forms: frozenset[int], deadline_s: float) -> None:
        """Note which forms the cloud takes: without pictures there are no second looks."""
        self.is_possible, self._deadline_s = self._options.pipeline.coding.form in forms, deadline_s

    @property
    def place(self) -> str:
        """Where the network is cut for a picture: its input."""
        return self._options.pipeline.coding.split

    def judge(self, story: Story, result: Result, answer: Answer) -> bool:
        """Begin a second look at a frame that was answered, if it needs one; return whether it does."""
        if story.first or story.as_sent is None:
            return False
        limit, sureness = self._options.limit, answer.sureness()
        was_picture = story.as_sent.split == self.place
        if not self.is_possible or was_picture or sureness is None or sureness >= limit.unsure_below:
            return False
        cloud_s = sum(result.stages_ms.get(stage, 0.0) for stage in CLOUD_STAGES) / 1000
        if not self._in_time(story, round(self._picture_bytes), cloud_s + self._coding_s):
            return False
        self.begun += 1
        self._queue.put_nowait(Waiting(story, cloud_s))
        return True

    def closed(self, story: Story, datagrams: int) -> None:
        """Note the end of a tensor of which so many datagrams were sent."""
        if story.as_sent:
            self._options.limit.sent(datagrams * story.as_sent.datagram_bytes, is_first=story.first is None)

    def _in_time(self, story: Story, size: int, work_s: float) -> bool:
        """Return whether the answer to a picture of `size` bytes of UDP payload can be there in time."""
        now, spread_s = time.monotonic(), self._spread_s(size)
        if spread_s > self._deadline_s:
            return False
        takes_s = max(spread_s, self._adaptation.extra_s(size, now) if self._adaptation else 0.0)
        return now - story.frame.captured_at + takes_s + work_s <= self._options.within_s

    async def run(self) -> None:
        """Code pictures until cancelled."""
        while True:
            await self._look(await self._queue.get())
            self._queue.task_done()

    async def until_coded(self) -> None:
        """Wait until every picture is with `Sending`."""
        await self._queue.join()

    async def _look(self, waiting: Waiting) -> None:
        story, cloud_s = waiting
        assert story.tensor is not None, "only what was sent has an answer"  # noqa: S101
        for quality in dict.fromkeys((picture_quality(self._options.limit.unsure_below), COARSEST)):
            coded = await self._coded(story, quality)
            if coded and self._in_time(story, coded[0].wire_bytes, cloud_s):
                encoded, stages = coded
                self._sending.put_look(Outgoing(story.frame, encoded, stages, time.perf_counter(), story.tensor))
                return
        self._sending.no_look(story.tensor)

    async def _coded(self, story: Story, quality: int) -> tuple[EncodedFrame, Stages] | None:
        """Return a frame's picture, None if it takes more bytes than there are datagrams for."""
        self._options.picture.quality = quality
        link = self._adaptation.estimate(time.monotonic()) if self._adaptation else UNKNOWN_LINK
        link = replace(link, request_s=0.0)  # such an answer is late anyway: it may as well wait for what is missing
        try:
            encoded, stages = await asyncio.to_thread(self._options.pipeline.encode, story.frame.image, link)
        except UsageError:
            return None
        self._picture_bytes += NEWEST * (encoded.wire_bytes - self._picture_bytes)
        self._coding_s += NEWEST * (sum(stages.values()) / 1000 - self._coding_s)
        return replace(encoded, plan=replace(encoded.plan, expected=None)), stages  # a gain is no agreement
