"""`gradfec config`: what may stand in the daemons' settings files, and whether a file is in order."""

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

Exit codes: 0 in order; 1 the file, or one that it names, cannot be read; 2 something is wrong in it.
"""
CAMERAS = """
# Many cameras in one process: a table for each, with a name and a camera of its own. What is for each camera may stand
# in its table, too, and counts there before what stands above.
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
PAGE = """# Configuration

`gradfec config reference --markdown` writes this page from the commands themselves (`make docs`).

`gradfec-edge` and `gradfec-cloud` each read one file of settings, in [TOML](https://toml.io): the one that `--config`
names, or `$GRADFEC_CONFIG`; else `edge.toml` or `cloud.toml` in `$GRADFEC_HOME` (where that is not set, in the
platform's directory for settings, on Linux `~/.config/gradfec`), else in `/etc/gradfec`. The first that is there is
read, and no other; the line with which the daemon starts says which. `--config /dev/null` reads none.

The keys are the options of the command line, with `_` for `-`; what the command line says counts before the file. A
key that does not exist is an error. A path is relative to where the daemon was started; `~/` is the home folder.

    gradfec config reference edge       # a whole file, with every key, its default and its meaning
    gradfec config check edge.toml      # whether a file is in order, and if not, what is wrong in which line
"""
MANY = """
Keys marked with * may also stand in `[[camera]]` tables, one for each camera. What a table does not say, the file says
above the tables, or it is the default. `--camera` on the command line is one camera, and passes the tables over.
[OPERATIONS.md](OPERATIONS.md) says how several cameras run.

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
    """Return a daemon's command."""
    command = import_module(DAEMONS[daemon]).main
    assert isinstance(command, click.Command)  # noqa: S101
    return command


@click.group("config", epilog=EXAMPLES)
def config() -> None:
    """Show and check the settings of gradfec-edge and gradfec-cloud, which may stand in a TOML file."""


@config.command()
@click.argument("daemon", required=False, type=click.Choice([*DAEMONS]))
@click.option("--markdown", is_flag=True, help="As docs/CONFIGURATION.md.")
def reference(daemon: str | None, markdown: bool) -> None:
    """Print every key with its default and its meaning: a settings file, in which nothing is set yet."""
    daemons = [daemon] if daemon else [*DAEMONS]
    click.echo(page(daemons) if markdown else "\n".join(settings_file(name) for name in daemons), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "daemon", type=click.Choice([*DAEMONS]), help="Whose it is. [default: whose keys it has]")
@plain_errors
def check(file: Path, daemon: str | None) -> None:
    """Say whether a settings file is in order; nothing is started."""
    daemon = daemon or likelier(file)
    found = read_config(file, command_of(daemon))
    for settings in each(found, daemon):
        try_out(file, daemon, settings)
    cameras = f", {len(found.cameras)} cameras" if found.cameras else ""
    click.echo(f"{file}: in order for gradfec-{daemon}: {len(found.settings)} settings{cameras}")


def likelier(file: Path) -> str:
    """Return the daemon that knows more of a file's keys; the edge, where both know as many."""
    _, content = parse(file)
    return max(DAEMONS, key=lambda daemon: len(keys_of(command_of(daemon)).keys() & content.keys()))


def each(found: Config, daemon: str) -> Iterator[Settings]:
    """Yield the settings of the process, or of each camera, filled up with the defaults."""
    defaults = {}
    for option in command_of(daemon).params:
        if option.expose_value:
            default = option.to_info_dict()["default"]
            defaults[str(option.name)] = default() if callable(default) else default
    for camera in found.cameras or [{}]:
        yield {**defaults, **found.settings, **camera}


def try_out(file: Path, daemon: str, settings: Settings) -> None:
    """Decide what the daemon would decide at its start, as far as that needs neither key nor network."""
    try:
        if daemon == "edge":
            from gradfec_edge.cameras import Decided, options_of

            Decided(options_of(settings))
        else:
            from gradfec_common.conceal import make_concealment
            from gradfec_common.networks import named_cut
            from gradfec_host.learned import learned_for

            cut = named_cut(settings["split"])
            make_concealment(settings["fill"], cut, learned_for(cut))
    except GradfecError as error:
        raise type(error)(f"{file}: {error}") from None


# --- the reference ---


def settings_file(daemon: str) -> str:
    """Return a daemon's settings file with every key, all of them comments."""
    lines = [f"# Settings of gradfec-{daemon}. A line without its # counts, unless the command line says otherwise.\n"]
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
    """Return what an option is for, in one paragraph."""
    text = " ".join((option.help or "").split())
    return f"{text} [default: {option.show_default}]" if isinstance(option.show_default, str) else text


def values(option: click.Option) -> str:
    """Return what an option may be set to."""
    extra = option.get_help_extra(click.Context(click.Command(None)))
    kind = kind_of(option)
    if isinstance(option.type, click.Choice):
        kind = " or ".join(json.dumps(choice) for choice in option.type.choices)
    form = option.type.name if isinstance(option.type, EndpointType) else option.metavar
    return ", ".join(filter(None, (kind, form, extra.get("range"))))


def literal(option: click.Option) -> str:
    """Write an option's default as TOML; "" where it has none, or another on each machine."""
    default: Any = option.to_info_dict()["default"]
    if option.is_flag:
        return json.dumps(bool(default))
    return "" if default is None or isinstance(option.show_default, str) else json.dumps(default)
