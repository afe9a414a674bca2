"""What every command line shares: plain errors instead of tracebacks, numbers and addresses as arguments."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.runtimes import AUTO, RUNTIMES

P = ParamSpec("P")
R = TypeVar("R")

TENSORFLOW_MODULES = ("tensorflow", "keras")  # an optional extra, which training and the sweeps need
NO_TENSORFLOW = "this needs TensorFlow, which is not installed: pip install 'gradfec[tensorflow]'"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' convention

runtime_option = click.option(
    "--runtime",
    default=AUTO,
    type=click.Choice([AUTO, *RUNTIMES]),
    help="What runs the network. [default: litert where it is installed, else tensorflow]",
    show_default=False,
)

key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The key that edge and cloud share. [default: where `gradfec keygen` puts it]",
    show_default=False,
)
insecure_option = click.option(
    "--insecure",
    is_flag=True,
    help="Go without a key, on both sides: anybody may read, forge and join. For experiments only.",
)


def chosen_settings(**decided: object) -> dict[str, str]:
    """Return the running command's options as they were decided, by name; `decided` are those that it chose itself."""
    given = click.get_current_context().params | decided
    return {name: str(value) for name, value in given.items() if value is not None}


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a GradfecError, or the want of TensorFlow, into one line on stderr, and Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except GradfecError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in TENSORFLOW_MODULES:
                raise
            click.echo(f"error: {NO_TENSORFLOW}", err=True)
            sys.exit(UsageError.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return run


def say_totals(program: str, totals: Mapping[str, Mapping[str, int]]) -> None:
    """Print a daemon's last words on standard error: a line for each kind of thing that it counted."""
    for title, counts in totals.items():
        text = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        click.echo(f"{program}: {title.replace('_', ' ')}: {text or 'none'}", err=True)


class Number(click.FloatRange):
    """A finite number within bounds: click's own range lets nan through, which is below no bound."""

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`, or fail with a sentence that names it."""
        number: float = super().convert(value, param, ctx)  # type: ignore[arg-type]  # click's own hint lacks str
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Endpoint(NamedTuple):
    """A UDP or TCP endpoint; `host` is empty where every interface is meant."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class EndpointType(click.ParamType[Endpoint]):
    """A click type for HOST:PORT, or for PORT alone where `default_host` is given; [::1]:9000 for IPv6."""

    def __init__(self, default_host: str | None = None) -> None:
        """Accept a bare PORT, meaning `default_host`, when it is not None."""
        self.default_host = default_host
        self.name = "HOST:PORT" if default_host is None else "[HOST:]PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Parse `value`, or fail with a sentence that names it."""
        if isinstance(value, Endpoint):
            return value
        text = str(value)
        host, colon, port = text.rpartition(":")
        if not colon:
            if self.default_host is None:
                self.fail(f"{text!r} names no port: write HOST:PORT, for example cloud.example:9000", param, ctx)
            host = self.default_host
        elif not host and self.default_host is None:
            self.fail(f"{text!r} names no host: write HOST:PORT, for example cloud.example:9000", param, ctx)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            self.fail(f"{port!r} in {text!r} is not a port: use a number from 1 to 65535", param, ctx)
        return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


web_option = click.option(
    "--web",
    type=EndpointType("127.0.0.1"),
    help="Serve a live page of what becomes of frames and packets, for a browser.",
)
