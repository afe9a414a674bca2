"""Several cameras in one process: one may end alone, readiness names the first that is not ready, all have one page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from gradfec_common.errors import GradfecError
from gradfec_edge import process
from gradfec_edge.process import _on_page, _run_one, why_not_ready
from gradfec_host import logs
from gradfec_host.logs import Log


class Toy:
    """A camera's daemon that ends with an error, or well."""

    def __init__(self, name: str, reason: str = "", error: Exception | None = None) -> None:
        self.options = SimpleNamespace(hello=SimpleNamespace(name=name))
        self.log = Log("gradfec-edge").of(name)
        self.reason, self.error = reason, error
        self.watch = SimpleNamespace()

    async def run(self) -> None:
        if self.error:
            raise self.error

    def why_not_ready(self) -> str:
        return self.reason


def test_of_several_cameras_the_first_that_is_not_ready_is_named() -> None:
    ready, lost, stuck = Toy("door"), Toy("yard", "not connected"), Toy("gate", "no frame")
    assert why_not_ready([ready, ready]) == ""  # type: ignore[list-item]
    assert why_not_ready([lost]) == "not connected"  # type: ignore[list-item]
    assert why_not_ready([ready, lost, stuck]) == "camera 'yard': not connected"  # type: ignore[list-item]


@pytest.mark.parametrize("error", [GradfecError("disk full"), ZeroDivisionError("our fault")])
@pytest.mark.parametrize("alone", [True, False])
def test_an_error_that_ends_a_camera_is_returned_and_logged_at_once_if_there_are_others(
    error: Exception, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert asyncio.run(_run_one(Toy("door", error=error), alone=alone)) is error  # type: ignore[arg-type]
    assert caplog.messages == ([] if alone else [f"this camera has ended: {error}"])
    assert asyncio.run(_run_one(Toy("door"), alone=alone)) is None  # type: ignore[arg-type]


def test_of_the_page_of_all_cameras_the_log_tells_in_the_name_of_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def shown(options: object, overview: object, say: Callable[[str], None]) -> AsyncIterator[None]:
        say("live page: here")
        yield

    async def run() -> None:
        async with _on_page(SimpleNamespace(), [Toy("door"), Toy("yard")]):  # type: ignore[arg-type, list-item]
            pass

    monkeypatch.setattr(process, "shown", shown)
    logs.configure("gradfec-edge")
    asyncio.run(run())
    logs.close()
    assert capsys.readouterr().err.endswith(" gradfec-edge: live page: here\n")
