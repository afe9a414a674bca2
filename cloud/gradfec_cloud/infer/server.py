"""The HTTP server for inference requests, on a thread of its own, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gradfec_cloud.infer.deepstack import predictions, read_confidence
from gradfec_cloud.infer.protocol import (
    EXTENSIONS,
    HEADER,
    INPUTS,
    OUTPUTS,
    Image,
    RequestError,
    read_request,
    response,
)
from gradfec_cloud.inference import Whole
from gradfec_common.heads import Answer, Place, boxes
from gradfec_common.jpeg import read_jpeg
from gradfec_common.networks import Cut, Preprocess
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import Picture, seen_share, to_input
from gradfec_host.console import Endpoint, version
from gradfec_web.connections import Connection
from gradfec_web.gate import Gate
from gradfec_web.http_server import Server

MODEL_VERSION = "1"
MOST_BYTES = 2**25  # of a request
MOST_REQUESTS = 8  # at work; one more is told to come later
MOST_CONNECTIONS = 64
MOST_FIELDS = 8  # of a form
FORM = "multipart/form-data"
BODY_WITHIN_S = 30.0
LAST_REQUESTS_S = 2

Floats = npt.NDArray[np.float32]
Ask = Callable[[Cut, Floats], "Future[Whole]"]  # RuntimeError if nothing can be asked now


class Seen(NamedTuple):
    """The network's input, the part of the picture that it shows, and the picture's size in pixels."""

    tensor: Floats
    share: Place
    width: int
    height: int


class InferServer:
    """The inference protocol over HTTP, from a thread of its own, with its own event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        listener: socket.socket,
        token: str | None,
        cuts: Sequence[Cut],
        ask: Ask,
        why_not_ready: Callable[[], str],
    ) -> None:
        """Serve the networks whose inputs `cuts` are, on `listener`, bound to `endpoint`.

        Other threads call `ask` and `why_not_ready`, which raises TimeoutError if the daemon does not answer.
        """
        self.counts = Counter[str]()  # requests for inference, by outcome
        self._models = {cut.network.name: cut for cut in cuts}
        self._ask, self._why_not_ready = ask, why_not_ready
        self._at_work = 0
        config = uvicorn.Config(
            Gate(self._app(), endpoint.host, endpoint.port, token),
            http=Connection,
            log_level="error",  # anybody can cause warnings, as many as they like
            log_config=None,  # any other would close the daemon's log
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=LAST_REQUESTS_S,
        )
        self._server = Server(config)
        serve = partial(asyncio.run, self._server.serve([listener]))
        self._thread = threading.Thread(target=serve, name="infer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; blocks up to twice LAST_REQUESTS_S, for the last requests."""
        self._server.should_exit = True
        self._thread.join(2 * LAST_REQUESTS_S)

    def _app(self) -> Starlette:
        model = "/v2/models/{model}"
        paths = (("", self._metadata, "GET"), ("/ready", self._model_ready, "GET"), ("/infer", self._infer, "POST"))
        routes = [
            Route("/v2", self._server_metadata),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/v1/vision/detection", self._detect, methods=["POST"]),
            Route("/v1/vision/custom/{model}", self._detect, methods=["POST"]),
            *(
                Route(f"{begin}{end}", endpoint, methods=[method])
                for begin in (model, f"{model}/versions/{{version}}")
                for end, endpoint, method in paths
            ),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})

    async def _server_metadata(self, request: Request) -> Response:
        return JSONResponse({"name": "gradfec", "version": version(), "extensions": EXTENSIONS})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        try:
            why_not = await asyncio.to_thread(self._why_not_ready)
        except TimeoutError as error:
            why_not = str(error)
        return JSONResponse({"ready": not why_not}, 503 if why_not else 200)

    async def _model_ready(self, request: Request) -> Response:
        self._model(request)
        return await self._ready(request)

    async def _metadata(self, request: Request) -> Response:
        name = self._model(request).network.name
        told = {"name": name, "versions": [MODEL_VERSION], "platform": "gradfec", "inputs": INPUTS, "outputs": OUTPUTS}
        return JSONResponse(told)

    def _model(self, request: Request) -> Cut:
        name, of = request.path_params["model"], request.path_params.get("version", MODEL_VERSION)
        if name not in self._models:
            raise HTTPException(404, f"there is no model {name!r}: there are {', '.join(self._models)}")
        if of != MODEL_VERSION:
            raise HTTPException(404, f"there is no version {of!r} of {name}: there is {MODEL_VERSION}")
        return self._models[name]

    async def _infer(self, request: Request) -> Response:
        return await self._counted(self._answered(self._model(request), request))

    async def _detect(self, request: Request) -> Response:
        return await self._counted(self._detected(self._detector(request), request))

    def _detector(self, request: Request) -> Cut:
        """Return the detector that a request names, or the first one."""
        cuts = [self._model(request)] if "model" in request.path_params else [*self._models.values()]
        found = [cut for cut in cuts if cut.network.head.name == boxes.NAME]
        if not found:
            raise HTTPException(404, f"no boxes come from {', '.join(cut.network.name for cut in cuts)}")
        return found[0]

    async def _counted(self, work: Coroutine[Any, Any, Response]) -> Response:
        """Do the work of a request for inference, if there is room for it."""
        if self._at_work >= MOST_REQUESTS:
            work.close()
            self.counts["busy"] += 1
            raise HTTPException(503, f"{MOST_REQUESTS} requests are at work: come again", {"Retry-After": "1"})
        self._at_work += 1
        try:
            answered = await work
        except HTTPException as error:
            self.counts["refused" if error.status_code < 500 else "failed"] += 1
            raise
        finally:
            self._at_work -= 1
        self.counts["answered"] += 1
        return answered

    async def _answered(self, cut: Cut, request: Request) -> Response:
        body = await _body(request)
        try:
            asked = read_request(body, _header_bytes(request.headers))
            seen = await asyncio.to_thread(_seen, asked.images, asked.files, cut.network.preprocess)
        except RequestError as error:
            raise HTTPException(400, str(error)) from None
        answers = await self._whole(seen, cut)
        content, header_bytes = response(cut.network.name, MODEL_VERSION, asked, answers)
        if header_bytes is None:
            return Response(content, media_type="application/json")
        return Response(content, 200, {HEADER: str(header_bytes)}, "application/octet-stream")

    async def _detected(self, cut: Cut, request: Request) -> Response:
        body = await _body(request)
        try:
            file, confidence = await _form(request.headers, body)
            least = read_confidence(confidence)
            (one,) = await asyncio.to_thread(_seen, (), (file,), cut.network.preprocess)
        except RequestError as error:
            raise HTTPException(400, str(error)) from None
        (answer,) = await self._whole([one], cut)
        return JSONResponse(predictions(answer, one.width, one.height, least))

    async def _whole(self, seen: Sequence[Seen], cut: Cut) -> list[Answer]:
        """Return the uncut network's answers for pictures."""
        try:
            done = await asyncio.gather(*(asyncio.wrap_future(self._ask(cut, one.tensor)) for one in seen))
        except RuntimeError as error:
            raise HTTPException(503, str(error)) from None
        answers: list[Answer] = []
        for whole, one in zip(done, seen, strict=True):
            if whole.answer is None:
                raise HTTPException(500, f"the network has failed: {whole.error!r}")
            answers.append(whole.answer.placed(one.share))
        return answers


async def _body(request: Request) -> bytes:
    """Read a request's body, if it is not compressed or too long, and comes in time."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "compressed requests are not read")
    found = bytearray()

    async def read() -> None:
        async for part in request.stream():
            found.extend(part)
            if len(found) > MOST_BYTES:
                raise HTTPException(413, f"a request has at most {MOST_BYTES} bytes")

    try:
        await asyncio.wait_for(read(), BODY_WITHIN_S)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the request did not come within {BODY_WITHIN_S:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client has gone") from None
    return bytes(found)


def _header_bytes(headers: Mapping[str, str]) -> int | None:
    text = headers.get(HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RequestError(f"{HEADER} is not a number of bytes: {text!r}")
    return int(text)


async def _form(headers: Headers, body: bytes) -> tuple[bytes, object]:
    """Return the file `image` of a form, and its `min_confidence`, if any; RequestError if it is no such form."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    if not headers.get("content-type", "").startswith(FORM):
        raise RequestError(f"a request is a form, {FORM}, with the file image")
    try:
        form = await MultiPartParser(headers, whole(), max_files=1, max_fields=MOST_FIELDS).parse()
    except (MultiPartException, ValueError) as error:  # the latter from the parser below Starlette's
        raise RequestError(f"the form cannot be read: {error}") from None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(form.close)
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise RequestError("the form has no file image")
        return await image.read(), form.get("min_confidence")


def _seen(images: Sequence[Image], files: Sequence[bytes], preprocess: Preprocess) -> list[Seen]:
    """Return what a network sees of pictures; RequestError for a file that is no picture.

    One picture after the other: a file that is decoded may be a thousand times larger.
    """
    return [_one_seen(frame, preprocess) for frame in _frames(images, files)]


def _frames(images: Sequence[Image], files: Sequence[bytes]) -> Iterator[Picture]:
    """Yield pictures as BGR, as cameras have it."""
    for image in images:
        yield np.ascontiguousarray(image[..., ::-1])  # RGB -> BGR
    for number, file in enumerate(files):
        yield _decoded(number, file)


def _decoded(number: int, file: bytes) -> Picture:
    try:
        return read_jpeg(file)
    except ValueError as error:
        raise RequestError(f"file {number}: {error}") from None


def _one_seen(frame: Picture, preprocess: Preprocess) -> Seen:
    height, width, _ = frame.shape
    tensor = normalise(to_input(frame, preprocess), preprocess)
    return Seen(tensor, seen_share(frame, preprocess), width, height)


async def _refused(request: Request, error: Exception) -> Response:
    status, detail, headers = 500, "", None
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
    if detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is no {request.url.path}: there are {', '.join(route.path for route in request.app.routes)}"
    told = {"error": detail or HTTPStatus(status).phrase}
    as_deepstack = {"success": False} if request.url.path.startswith("/v1/") else {}
    return JSONResponse({**as_deepstack, **told}, status, headers)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this is a bug in gradfec; its log has the rest"}, 500)
