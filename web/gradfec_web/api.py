"""The HTTP API for programs, beside the page: the newest answers, a stream of all of them, the edges, OpenAPI."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from gradfec_host.console import version
from gradfec_host.wall_clock import rfc3339
from gradfec_web.history import EdgePast, History
from gradfec_web.view import Answer

MOST_EDGES = 256  # whose newest answer is kept; as many as can be connected
MOST_WAITING = 100  # answers for one stream; then the oldest go
MOST_STREAMS = 32
ALIVE_S = 15.0  # between the signs of life in a stream without answers: proxies close silent ones
DESCRIPTION = "What a gradfec cloud answers its edges. Send the page's token, if it has one, as a bearer token."


class Answers:
    """The newest answer of each edge, and the readers of all answers."""

    def __init__(self) -> None:
        self.newest: OrderedDict[str, Mapping[str, object]] = OrderedDict()  # records by edge, the newest last
        self.streams: set[Stream] = set()

    def take(self, answer: Answer) -> None:
        """Add an answer."""
        self.newest.pop(answer.edge, None)
        self.newest[answer.edge] = answer.record
        if len(self.newest) > MOST_EDGES:
            self.newest.popitem(last=False)
        for stream in self.streams:
            stream.put(answer)


class Stream:
    """Answers that wait to be sent to one reader."""

    def __init__(self, edge: str | None) -> None:
        """Take the answers of one edge, or of all."""
        self._edge, self._dropped = edge, 0
        self._waiting: deque[Answer] = deque()
        self._arrived = asyncio.Event()

    def put(self, answer: Answer) -> None:
        """Add an answer, if it is of the right edge; if the reader is too slow, drop its oldest."""
        if self._edge in {None, answer.edge}:
            self._waiting.append(answer)
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._arrived.set()

    async def events(self) -> AsyncIterator[str]:
        """Yield answers as server-sent events, how many were dropped in between, and signs of life."""
        yield ": here\n\n"  # so that the reader has the headers at once
        while True:
            while self._waiting:
                if dropped := self._dropped:
                    self._dropped = 0
                    yield event("dropped", {"answers": dropped})
                yield event("answer", self._waiting.popleft().record)
            self._arrived.clear()
            arrived = asyncio.ensure_future(self._arrived.wait())
            try:
                await asyncio.wait([arrived], timeout=ALIVE_S)
            finally:
                arrived.cancel()
            if not self._waiting:
                yield ": still here\n\n"


class AnswerStream(StreamingResponse):
    """A response that is one of the streams, from when it is made until its reader has gone."""

    def __init__(self, answers: Answers, edge: str | None) -> None:
        """Stream the answers of one edge, or of all."""
        self._answers, self._stream = answers, Stream(edge)
        answers.streams.add(self._stream)
        headers = {"Cache-Control": "no-store"}
        super().__init__(self._stream.events(), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send answers, as they come."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.streams.discard(self._stream)


def event(kind: str, data: Mapping[str, object]) -> str:
    """Write a server-sent event (HTML, 9.2.6); JSON without line breaks is one line of data."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


class LatestAnswers(BaseModel):
    """The newest answer of each edge."""

    answers: list[dict[str, Any]] = Field(description="Records, as in the cloud's results file; the newest last.")


class EdgeNow(BaseModel):
    """An edge, and its last ten seconds; null where nothing is known."""

    name: str
    connected: bool
    address: str
    since: str = Field(description="When it connected, or left (RFC 3339).")
    said: str = Field(description="Why it left; empty while it is connected.")
    frames_per_s: float
    latency_ms: float | None = Field(description="Mean, from a frame's first datagram to its answer.")
    loss: float | None = Field(description="Share of the datagrams that were lost.")
    kbit_s: float


class Edges(BaseModel):
    """The edges that are connected, and those that have left in the last five minutes."""

    edges: list[EdgeNow]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


OfEdge = Annotated[str | None, Query(max_length=256, description="Only those of this edge.")]
FULL: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "There are too many streams."}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `answer`, a record, and `dropped`, how many were left out before the next.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def new_app(history: History, answers: Answers | None) -> FastAPI:
    """Return an application, which also serves the API below /api, unless `answers` is None."""
    app = FastAPI(title="gradfec", version=version(), description=DESCRIPTION, openapi_url=None)
    if answers is not None:
        _add_api(app, history, answers)
    return app


def _add_api(app: FastAPI, history: History, answers: Answers) -> None:

    @app.get("/api/answers", summary="The newest answer of each edge")
    async def latest(edge: OfEdge = None) -> LatestAnswers:
        records = [record for name, record in answers.newest.items() if edge in {None, name}]
        return LatestAnswers(answers=[dict(record) for record in records])

    @app.get(
        "/api/answers/stream",
        summary="Each answer, as it comes",
        response_class=StreamingResponse,
        responses={**EVENTS, **FULL},
    )
    async def stream(edge: OfEdge = None) -> Response:
        if len(answers.streams) >= MOST_STREAMS:
            return JSONResponse({"detail": f"there are {MOST_STREAMS} streams already"}, 503)
        return AnswerStream(answers, edge)

    @app.get("/api/edges", summary="The edges")
    async def edges() -> Edges:
        now = history.status.at if history.status else 0.0
        return Edges(edges=[_edge_now(past, now) for past in history.edges.values()])

    @app.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/api{rest:path}", include_in_schema=False)
    async def nothing(rest: str) -> JSONResponse:  # NiceGUI, which has all other paths, would send a page
        return JSONResponse({"detail": f"there is no /api{rest}: /api/openapi.json says what there is"}, 404)


def _edge_now(past: EdgePast, now: float) -> EdgeNow:
    edge, recent = past.edge, past.recent(now)
    return EdgeNow(
        name=edge.name,
        connected=edge.connected,
        address=edge.address,
        since=rfc3339(edge.since),
        said=edge.said,
        frames_per_s=round(recent.fps, 3),
        latency_ms=recent.latency_ms and round(recent.latency_ms, 3),
        loss=recent.loss,
        kbit_s=round(recent.kbit_s, 3),
    )
