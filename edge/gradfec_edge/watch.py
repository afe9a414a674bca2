"""The edge's own live page, and its sketches for the cloud's live page."""

from __future__ import annotations

import time
from dataclasses import replace

from gradfec_common.quantisers import is_stream
from gradfec_common.reassembly import read_map
from gradfec_common.session.edge import Connected, EdgeSession, Event, LinkLost, Refused
from gradfec_common.sketch import LEVELS, MAX_PHOTOGRAPH_BYTES, Sketch, importance_levels, plan_fates
from gradfec_common.wire.symbol import read_headers
from gradfec_edge.cells import cells_of
from gradfec_edge.photograph import fitted, jpeg
from gradfec_edge.pipeline import EncodedFrame
from gradfec_edge.story import Story
from gradfec_host.console import Endpoint
from gradfec_web.shown import PICTURE_EVERY_S, Tell
from gradfec_web.view import Edge, Frame, Picture, Settings, in_base64

THUMBNAIL = (160, 160)  # pixels; the cloud has a picture as the network sees it
PHOTOGRAPH_SIDE = 448  # pixels, the longer one: a visitor may be behind the same slow link

LOOKING = "looking for the cloud"


class Watch:
    """Tells page and cloud what becomes of each packet; does almost nothing if neither shows it."""

    def __init__(
        self,
        name: str,
        cloud: Endpoint,
        session: EdgeSession,
        *,
        thumbnail: bool,
        settings: Settings,
        fallback: str = "",
    ) -> None:
        """Watch an edge of that name, whose session is with `cloud`; `thumbnail`: sketches have a small photograph.

        Without the cloud, the model `fallback` answers, if there is one.
        """
        self._meanwhile = f"; {fallback} answers on the edge" if fallback else ""
        self._happened = LOOKING  # what the page says of the link, if nobody knows more
        self.edge = Edge(name, 0, str(cloud), False, time.time(), LOOKING + self._meanwhile, settings=settings)
        self.tell: Tell | None = None  # the page, if there is one
        self._session, self._thumbnail = session, thumbnail
        self._picture_at = 0.0  # when the next one may be taken
        self._pictured: dict[int, EncodedFrame] = {}  # tensors on their way whose picture will be shown

    def sent(self, tensor: int, encoded: EncodedFrame, first: int | None = None, *, may_sketch: bool = True) -> int:
        """Note that a tensor is about to be sent; return the bytes of a sketch of it, 0 if the cloud gets none.

        Of the two looks at a frame, the page shows the one whose answer stands: both are kept until then.
        """
        now, size = time.monotonic(), 0
        if may_sketch and self._session.wants_sketch(now):
            size = self._session.send_sketch(tensor, self._sketch(encoded), now, encoded.form)
        if first is not None:
            if first in self._pictured:
                self._pictured[tensor] = encoded
        elif self.tell and now >= self._picture_at:
            self._picture_at = now + PICTURE_EVERY_S
            self._pictured[tensor] = encoded
        return size

    def saw(self, event: Event) -> None:
        """Note an event of the core about the link."""
        match event:
            case Connected():
                self.edge = replace(self.edge, session=event.session, connected=True, since=time.time(), said="")
            case LinkLost():
                self._happened = "the cloud is leaving" if event.leaving else "the cloud is silent"
                self.edge = replace(self.edge, connected=False, since=time.time())
                self.found("")
            case Refused():
                self._happened = event.detail
                self.found("")

    def found(self, trouble: str) -> None:
        """Note why datagrams do not reach the cloud; "" if that is not known."""
        if self.edge.connected:
            return
        if trouble:  # what happened before is over
            self._happened = LOOKING
        self.edge = replace(self.edge, said=(trouble or self._happened) + self._meanwhile)

    def ended(self) -> None:
        """Note that there will be no more frames."""
        self.edge = replace(self.edge, connected=False, since=time.time(), said="ended", warnings=[])

    def frame_ended(self, tensor: int, story: Story, warnings: tuple[str, ...] = ()) -> None:
        """Show what became of a frame, its picture, if one was taken, and the warnings that hold.

        `tensor` is the one whose answer stands.
        """
        self.edge = replace(self.edge, warnings=list(warnings))
        encoded = self._pictured.pop(tensor, None)
        for look in story.looks:
            if look.as_sent:
                self._pictured.pop(look.as_sent.tensor, None)
        if self.tell is None:
            return
        self.tell(self._frame(tensor, story))
        if encoded is not None:
            self.tell(self._picture(tensor, story, encoded))

    def _sketch(self, encoded: EncodedFrame) -> Sketch:
        photograph = jpeg(encoded.image, THUMBNAIL, MAX_PHOTOGRAPH_BYTES) if self._thumbnail else b""
        return Sketch(plan_fates(encoded.plan), importance_levels(encoded.importance, LEVELS), photograph)

    def _frame(self, tensor: int, story: Story) -> Frame:
        return Frame(
            edge=self.edge.name,
            session=self.edge.session,
            number=tensor,
            at=time.time(),
            outcome=story.outcome,
            answer=story.answer.lines(),
            packets={kind: count for kind, count in story.packets.items() if count is not None},
            datagrams={kind: count for kind, count in story.datagrams.items() if count is not None},
            bursts=story.report.bursts if story.report else 0,
            latency_ms=story.latency_ms,
            stages_ms=story.all_stages_ms,
            source=story.frame.source,
            bytes=story.bytes,
            why=story.why,
            expected=story.as_sent.why.get("expected") if story.as_sent else None,
        )

    def _picture(self, tensor: int, story: Story, encoded: EncodedFrame) -> Picture:
        plan, grid = encoded.plan, encoded.grid
        arrived = read_map(story.report.arrived, plan.sent) if story.report else None
        seen = fitted(story.frame.image, PHOTOGRAPH_SIDE)
        complete = story.result is not None and story.result.outcome == "complete"
        cells = cells_of(plan, arrived, complete=complete)
        return Picture(
            edge=self.edge.name,
            session=self.edge.session,
            number=tensor,
            channels=grid.shape[2],
            groups=grid.groups,
            cells=in_base64(cells.tobytes()),
            importance=in_base64(importance_levels(encoded.importance, 256).tobytes()),
            photograph=in_base64(jpeg(story.frame.image[..., ::-1], seen)),
            answer=story.answer.lines(),
            of_file=is_stream(int(read_headers(encoded.unnumbered[:1])["quantiser"][0])),
            ratio=seen[0] / seen[1],
            boxes=story.answer.boxes(),
        )
