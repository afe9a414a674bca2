"""A second look: if the network is unsure of a frame's answer, the edge sends the frame again, as the picture.

Features of a few kilobytes are enough for most frames. The answers that they get wrong are mostly unsure ones, and the
network says so by their scores. To send only these frames' pictures costs a fraction of sending all (a cascade, as in
P. Viola, M. Jones, "Rapid object detection using a boosted cascade of simple features", CVPR 2001).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, LinkEstimate
from gradfec_common.quantisers import Coded
from gradfec_common.quantisers.image import ImageCodec
from gradfec_edge.adaptation import Adaptation
from gradfec_edge.pipeline import Pipeline
from gradfec_edge.sending import Sending
from gradfec_edge.slots import Outgoing
from gradfec_edge.story import Story

FIRST_BYTES = 2400  # of features: finer ones gain less than second looks do for the same bytes
COARSEST, FINEST = 60, 100  # the pictures' quality: the surer an answer has to be, the finer
WORK_S = 0.1  # that edge and cloud take for a picture
FRAMES_SAVED = 20  # whose bytes may be saved up for second looks; with fewer, the score jumps with each of them
GAIN = 0.4  # of agreement, by a picture that arrives whole: what its parity is worth depends on it
SUREST = 0.95  # surer answers are not worth a look, however many bytes were saved
USUAL_BYTES = 15_000  # of a picture, before the first one
NEWEST = 0.2  # the weight of the newest picture's bytes


class Limit(Protocol):
    """Below which score an answer is unsure; and how many bytes the features should take, unless the user says."""

    @property
    def first_bytes(self) -> int:
        """The bytes of UDP payload of a first look, without parity."""

    @property
    def score(self) -> float:
        """The score."""

    def spent(self, size: int, *, again: bool) -> None:
        """Note that a frame was sent in `size` bytes, for the first time or `again`."""


@dataclass(frozen=True)
class Score:
    """A score that stays the same."""

    score: float
    first_bytes = FIRST_BYTES

    def spent(self, size: int, *, again: bool) -> None:
        """Do nothing: it does not depend on bytes."""


class Savings:
    """The score rises with what frames leave of `frame_bytes` each: what they save pays for the second looks."""

    def __init__(self, frame_bytes: int) -> None:
        """Begin with half of the most that may be saved."""
        self.frame_bytes, self._most = frame_bytes, FRAMES_SAVED * frame_bytes
        self._saved = self._most / 2
        self.first_bytes = min(frame_bytes // 2, FIRST_BYTES)

    @property
    def score(self) -> float:
        """The score."""
        return SUREST * min(max(self._saved / self._most, 0.0), 1.0)

    def spent(self, size: int, *, again: bool) -> None:
        """Note that a frame was sent in `size` bytes, for the first time or `again`."""
        earned = 0 if again else self.frame_bytes
        self._saved = min(self._saved + earned - size, self._most)


def picture_quality(score: float) -> int:
    """Return the quality of the picture for answers that are unsure below a score: a high score asks for a fine one."""
    return round(COARSEST + (FINEST - COARSEST) * score)


class Picture:
    """A target that codes pictures with the `quality` that it is set to."""

    def __init__(self, codec: ImageCodec) -> None:
        self._codec, self.quality = codec, codec.quality

    def encode(self, tensor: npt.NDArray[np.float32], grid: PacketGrid, link: LinkEstimate) -> tuple[Coded, float]:
        """Code a picture (H, W, 3); also return what it gains."""
        return self._codec.with_quality(self.quality).encode(tensor, grid), GAIN


@dataclass(frozen=True)
class LookOptions:
    """What a camera's second looks are to be: through a pipeline whose target is `picture`, for answers below `limit`.

    There is none later than `within_s` after the frame was taken.
    """

    pipeline: Pipeline
    picture: Picture
    limit: Limit
    within_s: float


class SecondLook:
    """Decides which frames get a second look, and sends their pictures."""

    def __init__(self, options: LookOptions, sending: Sending, adaptation: Adaptation | None) -> None:
        """Join the parts."""
        self._options, self._sending, self._adaptation = options, sending, adaptation
        self._is_possible = False  # whether the cloud takes pictures
        self._picture_bytes: float = USUAL_BYTES
        self._queue: asyncio.Queue[Story] = asyncio.Queue()
        self.begun = 0  # second looks

    def allow(self, forms: frozenset[int]) -> bool:
        """From now on, look again if the cloud takes pictures; return whether it does."""
        self._is_possible = self._options.pipeline.coding.form in forms
        return self._is_possible

    def judge(self, story: Story, answer: Answer) -> bool:
        """Return whether to look again at a frame that was answered. Call it once for each answer."""
        if story.first or story.as_sent is None:
            return False
        limit, sureness = self._options.limit, answer.sureness()
        limit.spent(story.as_sent.wire_bytes, again=False)
        was_picture = story.as_sent.split == self._options.pipeline.coding.split
        if not self._is_possible or was_picture or sureness is None or sureness >= limit.score:
            return False
        now = time.monotonic()
        takes_s = self._adaptation.extra_s(round(self._picture_bytes), now) if self._adaptation else 0.0
        return now - story.frame.captured_at + takes_s + WORK_S <= self._options.within_s

    def put(self, story: Story) -> None:
        """Send a frame's picture, as soon as it is coded."""
        self.begun += 1
        self._queue.put_nowait(story)

    async def run(self) -> None:
        """Code pictures until cancelled."""
        while True:
            await self._look(await self._queue.get())
            self._queue.task_done()

    async def until_coded(self) -> None:
        """Wait until every picture is with `Sending`."""
        await self._queue.join()

    async def _look(self, story: Story) -> None:
        assert story.as_sent, "only what was sent has an answer"  # noqa: S101
        options, first = self._options, story.as_sent.tensor
        options.picture.quality = picture_quality(options.limit.score)
        link = self._adaptation.estimate(time.monotonic()) if self._adaptation else UNKNOWN_LINK
        try:
            encoded, stages = await asyncio.to_thread(options.pipeline.encode, story.frame.image, link)
        except UsageError:  # it takes more bytes than there are datagrams for
            self._sending.no_look(first)
            return
        options.limit.spent(encoded.wire_bytes, again=True)
        self._picture_bytes += NEWEST * (encoded.wire_bytes - self._picture_bytes)
        self._sending.put_look(Outgoing(story.frame, encoded, stages, time.perf_counter(), first))
