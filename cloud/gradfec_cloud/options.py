"""The options of `gradfec-cloud` that sinks and worker pools bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Given = Mapping[str, Any]  # the values of gradfec-cloud's options, by parameter
Option = Callable[[Any], Any]  # made by click.option

Command = TypeVar("Command", bound=Callable[..., Any])


def with_options(options: Iterable[Option]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command these options, in this order."""

    def give(command: Command) -> Command:
        for option in reversed([*options]):
            command = option(command)
        return command

    return give
