"""Quantities in options, from text to numbers."""

from __future__ import annotations

import math

import click

LONGEST_TIME_MS = 60_000


def number(text: object, unit: str, lowest: float, highest: float = math.inf) -> float:
    """Parse a finite number within bounds; click.BadParameter, which names the unit, if it is not one."""
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not (lowest <= value <= highest and math.isfinite(value)):
        bounds = f"at least {lowest:g}" if highest == math.inf else f"from {lowest:g} to {highest:g}"
        raise click.BadParameter(f"{text!r} is not a number of {unit}, {bounds}")
    return value


def percentage(text: object) -> float:
    """Parse `20%` or `0.2` into 0.2; click.BadParameter for what is no share from 0 to 1."""
    figure, percent, rest = str(text).strip().partition("%")
    try:
        value = float(figure) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is not a share of the datagrams: write it as 20% or as 0.2")
    return value


def datagrams(text: object) -> float:
    """Parse a mean number of datagrams, at least 1; click.BadParameter."""
    return number(text, "datagrams", lowest=1)


def milliseconds(text: object) -> float:
    """Parse milliseconds, up to LONGEST_TIME_MS, into seconds; click.BadParameter."""
    return number(text, "milliseconds", lowest=0, highest=LONGEST_TIME_MS) / 1e3


def megabits(text: object) -> float:
    """Parse Mbit/s, at least 0.001, into bit/s; click.BadParameter."""
    return number(text, "Mbit/s", lowest=0.001) * 1e6
