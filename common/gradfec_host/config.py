"""A daemon's settings in a TOML file: the options of its command under their names, with _ instead of -.

The command defines the file: its options are the keys, with their types and their help.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from gradfec_common.errors import GradfecError, UsageError
from gradfec_host import logs
from gradfec_host.short_files import read_short

CONFIG_VARIABLE = "GRADFEC_CONFIG"
OF_MACHINE = Path("/etc/gradfec")
CAMERA = "camera"  # the option, and the name of the tables for several cameras
CAMERA_KEY = re.compile(r"\s*[\"']?camera[\"']?\s*=")
HOW_VALUES_ARE_WRITTEN = "a text needs quotation marks, and yes or no is written true or false"
CAMERA_HEADING = re.compile(r"\s*\[\[\s*[\"']?camera[\"']?\s*\]\]")

Settings = dict[str, Any]  # by the parameters' names
Command = TypeVar("Command", bound=Callable[..., Any])


class Setting(click.Option):
    """An option that says, if it is missing, where a file with it would have been found."""

    def process_value(self, ctx: click.Context, value: object) -> object:
        """Convert a value; MissingParameter if there must be one."""
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            looked = " or ".join(map(str, ctx.meta[__name__].looked))
            hint = f"There is no settings file at {looked}." if looked else None
            raise click.MissingParameter(hint, ctx, self) from None


class CameraOption(Setting):
    """An option that each [[camera]] table can set for itself."""


camera_option = functools.partial(click.option, cls=CameraOption)


@dataclass(frozen=True)
class Config:
    """The content of a file, converted to the options' types."""

    path: Path | None = None
    settings: Settings = field(default_factory=dict)
    cameras: list[Settings] = field(default_factory=list)  # the [[camera]] tables
    looked: list[Path] = field(default_factory=list)  # where the file was sought, if there is none


def config_option(name: str) -> Callable[[Command], Command]:
    """Give a command the option --config, which reads NAME.toml before the other options; `config_used` returns it."""

    def load(ctx: click.Context, param: click.Parameter, given: Path | None) -> None:
        if ctx.resilient_parsing:  # the shell only completes a word
            return
        try:
            path = given or next((path for path in places(name) if os.path.isfile(path)), None)  # noqa: PTH113
            config = read_config(path, ctx.command) if path else Config(looked=places(name))
        except GradfecError as error:
            logs.fail(str(error))
            ctx.exit(error.exit_code)
        ctx.meta[__name__] = config
        # An option that every camera sets for itself need not be set for all, nor on the command line.
        said = {
            str(option.name): config.cameras[0][str(option.name)]
            for option in ctx.command.params
            if option.required and config.cameras and all(option.name in camera for camera in config.cameras)
        }
        ctx.default_map = {**said, **config.settings}

    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        envvar=CONFIG_VARIABLE,
        callback=load,
        help=f"Settings file, in TOML; the command line overrides it. [default: ${CONFIG_VARIABLE}; otherwise "
        f"{name}.toml in $GRADFEC_HOME if it is set, otherwise in ~/.config/gradfec; otherwise in /etc/gradfec]",
        show_default=False,
    )


def places(name: str) -> list[Path]:
    """Return the possible paths of NAME.toml; the daemon reads only the first that exists."""
    from gradfec_host.places import settings_folder

    return [folder / f"{name}.toml" for folder in (settings_folder(), OF_MACHINE)]


def config_used() -> Config:
    """Return the settings that the running command read from a file."""
    config = click.get_current_context().meta[__name__]
    assert isinstance(config, Config)  # noqa: S101
    return config


def each_camera(options: Settings) -> list[Settings]:
    """Return the options of each [[camera]] table; only `options` if there is none, or the command line has --camera.

    The command line overrides a camera's table, which overrides the rest of the file.
    """
    ctx, config = click.get_current_context(), config_used()
    fixed = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if CAMERA not in fixed and config.cameras:
        return [
            options | {name: value for name, value in camera.items() if name not in fixed} for camera in config.cameras
        ]
    for option in ctx.command.params:
        if option.required and str(option.name) not in fixed | {*config.settings}:  # only the ignored tables set it
            raise click.MissingParameter(ctx=ctx, param=option)
    return [options]


def differing(settings: Settings) -> Settings:
    """Return those settings of the running command that differ from their defaults, by their keys in a file."""
    found = {}
    for key, option in keys_of(click.get_current_context().command).items():
        value = settings.get(str(option.name))
        usual = option.default if isinstance(option.default, bool | int | float | str) else None  # a flag's is not set
        if value not in (None, usual) and (value or usual):
            found[key] = value
    return found


# --- the file ---


def keys_of(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by their keys in a settings file."""
    options = [option for option in command.params if isinstance(option, click.Option) and option.expose_value]
    return {max(option.opts, key=len).lstrip("-").replace("-", "_"): option for option in options}


def parse(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a TOML file; return its text and its content. GradfecError, or UsageError if it is not TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = read_short(path).decode("utf-8-sig")  # an editor may have put a mark in front
        return text, tomllib.loads(text)
    except OSError as error:
        raise GradfecError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        if (line := _camera_beside_tables(text)) is not None:
            reason = f"{CAMERA} = ... and [[{CAMERA}]] tables exclude each other: move it into a table of its own"
            raise UsageError(f"{path}, line {line}: {reason}") from None
        hint = f"; {HOW_VALUES_ARE_WRITTEN}" if str(error).startswith("Invalid value") else ""
        raise UsageError(f"{path} is not TOML: {error}{hint}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, too many brackets
        raise UsageError(f"{path} is not TOML: {error}") from None


def _camera_beside_tables(text: str) -> int | None:
    """Return the number of the line that sets a camera for all above the first [[camera]]; None if there is none."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if CAMERA_HEADING.match(line)), 0)
    return next((n + 1 for n in range(first) if CAMERA_KEY.match(lines[n])), None)


def read_config(path: Path, command: click.Command) -> Config:
    """Read a settings file; UsageError for anything wrong in it, with the line number if possible."""
    text, content = parse(path)
    reader = _Reader(path, text, keys_of(command))
    tables = content.get(CAMERA)
    many = isinstance(reader.options.get(CAMERA), CameraOption) and isinstance(tables, list)
    if isinstance(tables, dict) and CAMERA in reader.options:
        raise reader.wrong(CAMERA, None, "a camera's table has double brackets: write [[camera]]")
    cameras = content.pop(CAMERA) if many else []
    settings = reader.settings(content)
    if not all(isinstance(camera, dict) for camera in cameras):
        raise reader.wrong(CAMERA, None, "write one camera as text, or each one in a table under [[camera]]")
    return Config(path, settings, [reader.settings(camera, number) for number, camera in enumerate(cameras)])


class _Reader:
    """Converts one file's tables to settings."""

    def __init__(self, path: Path, text: str, options: dict[str, click.Option]) -> None:
        self.options = options
        self._path, self._lines = path, text.splitlines()

    def settings(self, table: Mapping[str, Any], camera: int | None = None) -> Settings:
        """Return a table's values by the parameters' names: the file's, or those of its `camera`-th camera."""
        found: Settings = {}
        for key, value in table.items():
            option = self.options.get(key)
            if option is None:
                raise self.wrong(key, camera, f"there is no setting {key!r}{self._nearest(key)}")
            if camera is not None and not isinstance(option, CameraOption):
                reason = f"{key} applies to all cameras: write it above the first [[camera]]"
                raise self.wrong(key, camera, reason)
            if reason := wrong_kind(option, value):
                raise self.wrong(key, camera, f"{key} = {shown(value)}: {reason}")
            try:
                found[str(option.name)] = option.type_cast_value(click.Context(click.Command(None)), as_given(value))
            except click.BadParameter as error:
                raise self.wrong(key, camera, f"{key} = {shown(value)}: {error.message.rstrip('.')}") from None
        return found

    def wrong(self, key: str, camera: int | None, reason: str) -> UsageError:
        """Return the error that says what is wrong, and in which line."""
        line = self._line_of(key, camera)
        return UsageError(f"{self._path}{f', line {line}' if line else ''}: {reason}")

    def _nearest(self, key: str) -> str:
        near = difflib.get_close_matches(key.replace("-", "_").lower(), self.options, 1, 0.5)
        return f": did you mean {near[0]}?" if near else "; `gradfec config reference` lists them"

    def _line_of(self, key: str, camera: int | None) -> int | None:
        """Return the number of the line, from 1, that sets a key; None if it is not found."""
        headings = [number for number, line in enumerate(self._lines) if CAMERA_HEADING.match(line)]
        start = 0 if camera is None or camera >= len(headings) else headings[camera]
        name = rf"[\"']?{re.escape(key)}[\"']?"
        sets = re.compile(rf"\s*({name}\s*[=.]|\[+\s*{name}\s*[\].])")
        return next((n + 1 for n, line in enumerate(self._lines) if n >= start and sets.match(line)), None)


def kind_of(option: click.Option) -> str:
    """Describe the kind of value that an option takes in TOML."""
    if option.is_flag:
        return "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number"
    return "a number" if isinstance(option.type, click.types.FloatParamType) else "text"


def wrong_kind(option: click.Option, value: object) -> str:
    """Describe what an option's value must be in TOML; return "" if it is of the right kind."""
    kind = kind_of(option)
    if isinstance(value, bool):
        right = option.is_flag
    elif kind == "text":  # a port and a camera's number need no quotes
        right = isinstance(value, str | int)
    else:
        right = isinstance(value, int | float if kind == "a number" else int) and not option.is_flag
    quotes = {"text": ", in quotes", "true or false": ""}
    return "" if right else f"write {kind}{quotes.get(kind, ', without quotes')}"


def as_given(value: Any) -> Any:
    """Return a value as a shell would pass it: `~/` becomes the user's home folder."""
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return value if isinstance(value, bool | float) else str(value)


def shown(value: object) -> str:
    """Write a value for an error, on one line and not too long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
