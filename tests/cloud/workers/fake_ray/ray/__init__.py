"""As much of Ray as the bridge uses, in one process: an actor is a thread, and dies by SystemExit.

`init` cannot join a cluster at the address `nowhere`. At any other, nothing is checked.
"""

from __future__ import annotations

import inspect
import itertools
import queue
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError

__all__ = ["RayError", "get", "init", "kill", "nodes", "put", "remote", "shutdown"]

STORE: dict[int, Any] = {}
NUMBERS = itertools.count()


class Ref:
    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self.outcome


class Handle:
    """An actor: `work` is its thread's queue; its other calls each have a thread."""

    def __init__(self, kind: type, arguments: tuple[Any, ...]) -> None:
        self._kind, self._arguments = kind, arguments
        self.lock = threading.RLock()
        self.pending: list[Ref] = []
        self.is_over = False
        self.begin()

    def begin(self) -> None:
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self.live, args=[self.work], daemon=True).start()

    def live(self, work: queue.SimpleQueue[Any]) -> None:
        try:
            actor = self._kind(*self._arguments)
        except Exception as error:
            self.die(ActorDiedError(f"its creation failed:\n{type(error).__name__}: {error}"), restart=False)
            return
        while (call := work.get()) is not None:
            name, arguments, ref = call
            if name == "watch":
                continue
            try:
                found = getattr(actor, name)(*arguments)
            except SystemExit:
                self.die(ActorUnavailableError("it exited"), restart=True)
                return
            except Exception as error:
                found = RayTaskError(repr(error))
            with self.lock:
                if ref in self.pending:
                    self.pending.remove(ref)
                    settle(ref, found)

    def die(self, error: Exception, *, restart: bool) -> None:
        with self.lock:
            lost, self.pending = self.pending, []
            self.is_over = not restart
            self.work.put(None)
            if restart:
                self.begin()
        for ref in lost:
            settle(ref, error)

    def call(self, name: str, arguments: tuple[Any, ...]) -> Ref:
        ref = Ref()
        with self.lock:
            if self.is_over:
                settle(ref, ActorDiedError("it is over"))
            else:
                self.pending.append(ref)
                self.work.put((name, arguments, ref))
        return ref

    def __getattr__(self, name: str) -> Any:
        return Method(self, name)


class Method:
    def __init__(self, handle: Handle, name: str) -> None:
        self._handle, self._name = handle, name

    def options(self, **_: Any) -> Method:
        return self

    def remote(self, *arguments: Any) -> Ref:
        return self._handle.call(self._name, arguments)


def settle(ref: Ref, found: Any) -> None:
    if isinstance(found, RayError):
        ref.outcome.set_exception(found)
    else:
        ref.outcome.set_result(found)


def init(address: str, **_: Any) -> Any:
    if address == "nowhere":
        raise ConnectionError("there is no cluster at nowhere")
    return SimpleNamespace(address_info={"gcs_address": address})


def nodes() -> list[str]:
    return ["a machine"]


def put(found: Any) -> int:
    STORE[number := next(NUMBERS)] = found
    return number


def get(reference: int) -> Any:
    return STORE[reference]


def remote(**options: Any) -> Any:
    assert options["max_restarts"] == -1

    def of(kind: type) -> Any:
        count = len(inspect.signature(kind).parameters)

        def start(*arguments: Any) -> Handle:
            assert len(arguments) == count
            return Handle(kind, arguments)

        return SimpleNamespace(remote=start)

    return of


def kill(handle: Handle, *, no_restart: bool) -> None:
    handle.die(ActorDiedError("killed") if no_restart else ActorUnavailableError("killed"), restart=not no_restart)


def shutdown() -> None:
    pass
