"""A link that changes while it runs: a file of times, and of the injector's options from then on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from gradfec_cli.channel import ChannelSettings
from gradfec_cli.netem import channel_options, channel_settings
from gradfec_cli.quantities import number
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host.short_files import read_short


@dataclass(frozen=True)
class Step:
    """Both directions of a link, from some seconds after the first datagram on."""

    at_s: float
    up: ChannelSettings
    back: ChannelSettings


@click.command(add_help_option=False)
@channel_options("")
@channel_options("back-")
def link() -> None:
    """Hold the options of a line; it is only parsed."""


def read_schedule(path: Path) -> list[Step]:
    """Read a schedule; GradfecError or UsageError, with the file's name and the line, for anything else."""
    try:
        lines = read_short(path).decode(errors="replace").splitlines()
    except OSError as error:
        raise GradfecError(f"cannot read the schedule {path}: {error.strerror}") from None
    steps: list[Step] = []
    for count, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            step = step_of(text)
            if steps and step.at_s <= steps[-1].at_s:
                raise UsageError(f"{step.at_s:g} s is not after {steps[-1].at_s:g} s: put the lines in order of time")
        except (GradfecError, click.ClickException, ValueError) as error:
            said = error.message if isinstance(error, click.ClickException) else error
            raise UsageError(f"{path}, line {count}: {said}") from None
        steps.append(step)
    if not steps:
        raise UsageError(f"{path} has no line: write for example 10 --rate 1 --delay 40")
    return steps


def step_of(text: str) -> Step:
    """Read one line: `10 --rate 1 --delay 40 --back-delay 40`; UsageError or click.UsageError if it is wrong."""
    at, *arguments = shlex.split(text)
    options = link.make_context("", arguments).params
    if options["record"] or options["back_record"]:
        raise UsageError("--record is for the whole run: give it to the command")
    seconds = number(at, "seconds", lowest=0)
    return Step(seconds, channel_settings("", options), channel_settings("back-", options))
