"""`gradfec config`: the keys of the daemons' settings files, and a check of a file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from gradfec_common.errors import GradfecError
from gradfec_host.config import CameraOption, Config, Settings, keys_of, kind_of, parse, read_config
from gradfec_host.console import EndpointType, plain_errors

DAEMONS = {"edge": "gradfec_edge.cli", "cloud": "gradfec_cloud.cli"}
EXAMPLES = """\b
Examples:
  gradfec config reference edge > ~/.config/gradfec/edge.toml
  gradfec config check ~/.config/gradfec/edge.toml

Exit codes: 0 valid; 1 the file, or one that it names, cannot be read; 2 something in it is wrong.
"""
CAMERAS = """
# Several cameras in one process: one table for each, with its own name and camera. A table can also set any key that is
# marked with [[camera]] above; it overrides the value above.
#
#[[camera]]
#name = "door"
#camera = "/dev/video0"
#
#[[camera]]
#name = "yard"
#camera = "rtsp://10.0.0.7/stream"
#fps = 2
"""
PAGE = """# Settings

`gradfec config reference --markdown` generates this page from the commands themselves (`make docs`).

`gradfec-edge` and `gradfec-cloud` each read one settings file, in [TOML](https://toml.io): the file that `--config` or
`$GRADFEC_CONFIG` names. If neither is given, they look for `edge.toml` or `cloud.toml` in `$GRADFEC_HOME` (if that is
not set, in the platform's directory for settings, on Linux `~/.config/gradfec`), and then in `/etc/gradfec`. They read
only the first file that exists, once, and log its path at the start. `--config /dev/null` reads no file, and so do the
daemons that `gradfec demo`, `sweep` and `bench` start.

The keys are the command line's options, with `_` instead of `-`. The command line overrides the file. An unknown key is
an error. A relative path starts at the folder where the daemon was started; `~/` is the home folder. Never put a key
itself into a settings file, only the path of its file (`key_file`, `keys`). The [glossary](glossary.md) explains words
such as split and proxy, and [choices](choices.md) the names of codecs, policies and estimators.

    gradfec config reference edge       # prints a file with every key, its default and its meaning
    gradfec config check edge.toml      # says that a file is valid, or what is wrong and in which line
"""
MANY = """
Keys marked with * can also be set in `[[camera]]` tables, one for each camera. If a table does not set a key, the value
above the tables applies, or else the default. `--camera` on the command line runs that camera and ignores the tables.
[Many cameras](../how-to/cameras.md) explains how they run.

    cloud = "server.example:9000"
    results = "answers.jsonl"

    [[camera]]
    name = "door"
    camera = "/dev/video0"

    [[camera]]
    name = "yard"
    camera = "rtsp://10.0.0.7/stream"
    fps = 2
    protect = "FEC_50_50"
"""
HEADINGS = "\n| key | default | value | meaning |\n|---|---|---|---|\n"


def command_of(daemon: str) -> click.Command:
    """Import a daemon, `edge` or `cloud`, and return its command."""
    command = import_module(DAEMONS[daemon]).main
    assert isinstance(command, click.Command)  # noqa: S101
    return command


@click.group("config", epilog=EXAMPLES)
def config() -> None:
    """Explain and check the settings of gradfec-edge and gradfec-cloud in a TOML file."""


@config.command()
@click.argument("daemon", required=False, type=click.Choice([*DAEMONS]))
@click.option("--markdown", is_flag=True, help="Print the page docs/reference/settings.md.")
@plain_errors
def reference(daemon: str | None, markdown: bool) -> None:
    """Print a settings file with every key as a comment, with its default and its meaning."""
    daemons = [daemon] if daemon else [*DAEMONS]
    click.echo(page(daemons) if markdown else "\n".join(settings_file(name) for name in daemons), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "daemon",
    type=click.Choice([*DAEMONS]),
    help="The daemon that reads the file. [default: the one that knows its keys]",
)
@plain_errors
def check(file: Path, daemon: str | None) -> None:
    """Check a settings file, without starting anything."""
    daemon = daemon or likelier(file)
    found = read_config(file, command_of(daemon))
    try_out(file, daemon, [*each(found, daemon)])
    cameras = f", {len(found.cameras)} cameras" if found.cameras else ""
    click.echo(f"{file}: valid for gradfec-{daemon}: {len(found.settings)} settings{cameras}")


def likelier(file: Path) -> str:
    """Return the daemon that knows more of a file's keys; the edge if both know equally many."""
    _, content = parse(file)
    return max(DAEMONS, key=lambda daemon: len(keys_of(command_of(daemon)).keys() & content.keys()))


def each(found: Config, daemon: str) -> Iterator[Settings]:
    """Yield the settings of the process, or of each camera, completed with the defaults."""
    defaults = {}
    for option in command_of(daemon).params:
        if option.expose_value:
            default = option.to_info_dict()["default"]
            defaults[str(option.name)] = default() if callable(default) else default
    for camera in found.cameras or [{}]:
        yield {**defaults, **found.settings, **camera}


def try_out(file: Path, daemon: str, settings: list[Settings]) -> None:
    """Check what the daemon would check at its start, as far as that needs no key and no link."""
    try:
        if daemon == "edge":
            from gradfec_edge.camera_setup import CameraSetup, options_of
            from gradfec_edge.cameras import check_names, naming

            cameras = [options_of(one) for one in settings]
            check_names(cameras)
            for camera in cameras:
                with naming(camera.name, many=len(cameras) > 1):
                    CameraSetup(camera)
        else:
            from gradfec_cloud.catalogue import chosen_catalogue

            for one in settings:
                chosen_catalogue(*(one[name] for name in ("split", "fill", "codec", "model", "learned", "backend")))
    except GradfecError as error:
        raise type(error)(f"{file}: {error}") from None


# --- the reference ---


def settings_file(daemon: str) -> str:
    """Return a daemon's settings file with every key as a comment."""
    lines = [f"# Settings of gradfec-{daemon}. Remove the # to set a key; the command line overrides it.\n"]
    for key, option in keys_of(command_of(daemon)).items():
        required = "; required" if option.required else ""
        where = "; also in [[camera]]" if isinstance(option, CameraOption) else ""
        for text in (meaning(option), f"Value: {values(option)}{required}{where}."):
            lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"#{key} = {literal(option)}".rstrip() + "\n")
    return "\n".join(lines) + (CAMERAS if daemon == "edge" else "")


def page(daemons: list[str]) -> str:
    """Return the reference as a page of Markdown."""
    return PAGE + "".join(
        f"\n## {daemon}.toml\n{MANY if daemon == 'edge' else ''}{HEADINGS}{rows(daemon)}" for daemon in daemons
    )


def rows(daemon: str) -> str:
    """Return the rows of a daemon's table."""
    text = ""
    for key, option in keys_of(command_of(daemon)).items():
        star = " *" if isinstance(option, CameraOption) else ""
        default = f"`{literal(option)}`" if literal(option) else "required" if option.required else ""
        cells = (f"`{key}`{star}", default, values(option), meaning(option))
        text += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return text


def meaning(option: click.Option) -> str:
    """Return an option's help as one paragraph."""
    text = " ".join((option.help or "").split())
    return f"{text} [default: {option.show_default}]" if isinstance(option.show_default, str) else text


def values(option: click.Option) -> str:
    """Return which values an option accepts."""
    extra = option.get_help_extra(click.Context(click.Command(None)))
    kind = kind_of(option)
    if isinstance(option.type, click.Choice):
        kind = " or ".join(json.dumps(choice) for choice in option.type.choices)
    form = option.type.name if isinstance(option.type, EndpointType) else option.metavar
    return ", ".join(filter(None, (kind, form, extra.get("range"))))


def literal(option: click.Option) -> str:
    """Write an option's default as TOML; "" if it has none, or if it depends on the machine."""
    default: Any = option.to_info_dict()["default"]
    if option.is_flag and default is not None:
        return json.dumps(bool(default))
    return "" if default is None or isinstance(option.show_default, str) else json.dumps(default)
