"""What every command line shares: common options, one-line errors instead of tracebacks, numbers, addresses."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import click

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host import logs
from gradfec_host.extras import EXTRAS, missing
from gradfec_host.runtimes import AUTO, RUNTIMES

P = ParamSpec("P")
R = TypeVar("R")

EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' convention
CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}  # click's settings for a command
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

runtime_option = click.option(
    "--runtime",
    default=AUTO,
    type=click.Choice([AUTO, *RUNTIMES]),
    help="Runtime for the neural network. [default: litert if it is installed, otherwise tensorflow]",
    show_default=False,
)

key_file_option = functools.partial(
    click.option,
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File of the key that edge and cloud share. [default: where `gradfec keygen` puts it]",
    show_default=False,
)
insecure_option = functools.partial(
    click.option,
    "--insecure",
    is_flag=True,
    help="Run without a key, on both sides: anybody can read, forge and connect. For experiments only.",
)


log_format_option = click.option(
    "--log-format",
    default=logs.TEXT,
    type=click.Choice([logs.TEXT, logs.JSON]),
    help="Format of the log on standard error: lines for people, or one JSON object a line.",
)
log_level_option = click.option(
    "--log-level", default="info", type=click.Choice(logs.LEVELS), help="Log nothing below this level."
)


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a GradfecError, a full disk, or a missing extra into one line on stderr, and Ctrl-C into exit code 130.

    A bug of ours keeps its traceback; a JSON log has it as one object.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        _need_standard_error()
        try:
            return command(*args, **kwargs)
        except GradfecError as error:
            logs.fail(str(error))
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        except click.ClickException:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                where = f" {error.filename}" if error.filename else ""
                logs.fail(f"cannot write{where}: {error.strerror}: make room, or write elsewhere")
                sys.exit(1)
            module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            if module in EXTRAS:
                logs.fail(missing(module))
                sys.exit(UsageError.exit_code)
            log = logs.handler()
            if log is None or log.form != logs.JSON:
                raise
            logs.fail(repr(error), error)
            sys.exit(1)
        finally:
            logs.close()

    return run


def _need_standard_error() -> None:
    """If standard error is closed, write to nothing, so that no socket or file of ours becomes descriptor 2."""
    if sys.stderr is None:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 2)
        if descriptor != 2:
            os.close(descriptor)
        sys.stderr = os.fdopen(2, "w")


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say after Ctrl-C that the work can be resumed; a decorator below `plain_errors`."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped: run the same command again to go on", err=True)
        raise


def prints_on_terminal(results: str | None) -> bool:
    """Return whether records go to the terminal where a live status would be drawn."""
    return results == "-" and sys.stdout.isatty()


def version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("gradfec")
    except metadata.PackageNotFoundError:  # run without installation
        return "unknown"


def _say_version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"{ctx.find_root().info_name}, version {version()}")
        ctx.exit()


version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)


class Number(click.FloatRange):
    """A finite number within bounds; click's own range accepts nan, because it is not below any bound."""

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`, or fail with a sentence that names it."""
        number: float = super().convert(value, param, ctx)  # type: ignore[arg-type]  # click's own hint lacks str
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Endpoint(NamedTuple):
    """A UDP or TCP endpoint; an empty `host` means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class EndpointType(click.ParamType[Endpoint]):
    """A click type for HOST:PORT, such as [::1]:9000, or for PORT alone if there is a `default_host`."""

    def __init__(self, default_host: str | None = None) -> None:
        self.default_host = default_host
        self.name = "HOST:PORT" if default_host is None else "[HOST:]PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Parse `value`, or fail with a sentence that names it."""
        if isinstance(value, Endpoint):
            return value
        text = str(value)
        if "/" in text:
            self.fail(f"{text!r} is not {self.name}: leave out http:// and any path", param, ctx)
        host, colon, port = text.rpartition(":")
        if not colon:
            if self.default_host is None:
                self.fail(f"{text!r} has no port: write HOST:PORT, for example cloud.example:9000", param, ctx)
            host = self.default_host
        elif not host and self.default_host is None:
            self.fail(f"{text!r} has no host: write HOST:PORT, for example cloud.example:9000", param, ctx)
        try:
            host.encode("idna")
        except UnicodeError:
            self.fail(f"{host!r} cannot be a host's name: each part has 1 to 63 characters", param, ctx)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            where = f"{port!r} in {text!r}" if colon else f"{text!r}"
            self.fail(f"{where} is not a port: use a number from 1 to 65535", param, ctx)
        return Endpoint(host.removeprefix("[").removesuffix("]"), int(port))


web_option = click.option(
    "--web",
    type=EndpointType("127.0.0.1"),
    help="Serve a live page that shows frames and packets in a browser.",
)
