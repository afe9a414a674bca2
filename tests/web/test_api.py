"""The HTTP API: the newest answers, a stream of all, the edges, and a description that tools can use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from tests.web.world import Camera, status

from gradfec_web import api
from gradfec_web.api import Answers, Stream, new_app
from gradfec_web.history import History
from gradfec_web.view import Answer


def answer(edge: str, number: int) -> Answer:
    return Answer(edge, {"edge": edge, "tensor": number, "head": "classify", "top5": []})


def ask(app: FastAPI, path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(run())


class World:
    """An application, and what it shows."""

    def __init__(self) -> None:
        self.history, self.answers = History(), Answers()
        self.app: FastAPI = new_app(self.history, self.answers)

    def get(self, path: str) -> Any:
        response = ask(self.app, path)
        assert response.status_code == 200
        return response.json()


@pytest.fixture
def world() -> World:
    return World()


def test_the_newest_answer_of_each_edge_is_its_record(world: World) -> None:
    assert world.get("/api/answers") == {"answers": []}
    for one in (answer("door", 1), answer("yard", 1), answer("door", 2)):
        world.answers.take(one)
    assert world.get("/api/answers") == {"answers": [answer("yard", 1).record, answer("door", 2).record]}
    assert world.get("/api/answers?edge=yard") == {"answers": [answer("yard", 1).record]}
    assert world.get("/api/answers?edge=gate") == {"answers": []}


def test_edges_that_choose_ever_new_names_do_not_fill_the_memory(world: World) -> None:
    for number in range(api.MOST_EDGES + 1):
        world.answers.take(answer(f"edge {number}", 1))
    names = [record["edge"] for record in world.get("/api/answers")["answers"]]
    assert names == [f"edge {number}" for number in range(1, api.MOST_EDGES + 1)]


def test_the_edges_are_those_of_the_page_with_their_last_seconds(world: World) -> None:
    camera, gone = Camera("door", 1), Camera("yard", 2)
    world.history.take(status("cloud", 1e9, [camera.edge(1e9), gone.edge(1e9, connected=False, said="bye")]))
    for tenth in range(10):
        world.history.take(camera.frame(1e9 + tenth / 10)[0])
    world.history.take(status("cloud", 1e9 + 1, [camera.edge(1e9), gone.edge(1e9, connected=False, said="bye")]))
    edges = {edge["name"]: edge for edge in world.get("/api/edges")["edges"]}
    assert edges["door"]["connected"]
    assert edges["door"]["since"] == "2001-09-09T01:45:25.000Z"
    assert edges["door"]["frames_per_s"] > 0
    assert 0 < edges["door"]["loss"] < 1
    assert edges["door"]["latency_ms"] > 0
    assert (edges["yard"]["connected"], edges["yard"]["said"], edges["yard"]["loss"]) == (False, "bye", None)


def events(stream: Stream, count: int) -> list[str]:
    async def run() -> list[str]:
        found: AsyncIterator[str] = stream.events()
        return [await anext(found) for _ in range(count)]

    return asyncio.run(run())


def told(kind: str, data: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def test_a_stream_has_each_answer_of_its_edge_in_order() -> None:
    stream = Stream("door")
    for one in (answer("door", 1), answer("yard", 1), answer("door", 2)):
        stream.put(one)
    assert events(stream, 3)[1:] == [told("answer", answer("door", number).record) for number in (1, 2)]


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told_how_many() -> None:
    stream = Stream(None)
    for number in range(api.MOST_WAITING + 3):
        stream.put(answer("door", number))
    assert events(stream, 3)[1:] == [told("dropped", {"answers": 3}), told("answer", answer("door", 3).record)]


def test_a_stream_without_answers_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ALIVE_S", 0.001)
    assert events(Stream(None), 3)[1:] == [": still here\n\n"] * 2


def test_there_are_not_more_streams_than_allowed_and_one_that_ends_makes_room(world: World) -> None:
    world.answers.streams |= {Stream(None) for _ in range(api.MOST_STREAMS)}
    response = ask(world.app, "/api/answers/stream")
    assert (response.status_code, response.json()) == (503, {"detail": "there are 32 streams already"})


def test_streams_that_are_asked_for_at_once_are_not_more_than_allowed_either(world: World) -> None:
    path = "/api/answers/stream"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }

    async def story() -> None:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def ask_and_stay() -> None:
            await world.app({**scope, "scheme": "http"}, asyncio.Event().wait, send)

        readers = [asyncio.create_task(ask_and_stay()) for _ in range(2 * api.MOST_STREAMS)]
        while len(statuses) < len(readers):
            await asyncio.sleep(0.01)
        assert (statuses.count(200), statuses.count(503)) == (api.MOST_STREAMS, api.MOST_STREAMS)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert not world.answers.streams

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_page_that_is_not_the_clouds_has_no_api() -> None:
    assert ask(new_app(History(), None), "/api/answers").status_code == 404


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/answer", "/api/edges/door"])
def test_a_wrong_path_is_answered_in_json_and_says_where_the_right_ones_are(world: World, path: str) -> None:
    response = ask(world.app, path)
    detail = f"there is no {path}: /api/openapi.json says what there is"
    assert (response.status_code, response.json()) == (404, {"detail": detail})


def test_the_description_is_valid_openapi_3_1(world: World) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    text = world.get("/api/openapi.json")
    assert text["openapi"].startswith("3.1.")
    assert {*text["paths"]} == {"/api/answers", "/api/answers/stream", "/api/edges"}
    validator.validate(text)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_whatever_a_client_sends_is_answered_as_described_and_never_by_a_server_error(world: World, mode: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    world.answers.take(answer("door", 1))
    world.history.take(status("cloud", 1e9, [Camera("door", 1).edge(1e9)]))
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", world.app).exclude(path="/api/answers/stream")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert [one.label for one in operations] == ["GET /api/answers", "GET /api/edges"]
    for operation in operations:
        if mode == "positive" or operation.query:  # without parameters, nothing can be wrong

            @settings(max_examples=50)
            @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
            def check(case: Any) -> None:
                case.call_and_validate()

            check()
