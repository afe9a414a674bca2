"""Readers for the sweeps' options: lists of names, shares, estimators, and how tensors are coded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import click

from gradfec_cli.oracle import BY_LABEL, ORACLE, UNCOMPENSATED
from gradfec_cli.quantities import percentage
from gradfec_common.conceal import CONCEALMENTS
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.quantisers import Quantiser, chosen_quantiser

FILL_HELP = f"How to fill gaps: {', '.join(CONCEALMENTS)}."


def names_list(text: str) -> list[str]:
    """Read `a,b` as distinct names, in order."""
    return _distinct(text.split(","), text)


def read_policies(text: str) -> list[str]:
    """Read `none,nested:4,8,12` as policies: a comma before a digit belongs to the policy."""
    return _distinct(re.split(r",(?!\s*\d)", text), text)


def _distinct(parts: list[str], text: str) -> list[str]:
    names = [*dict.fromkeys(part.strip() for part in parts if part.strip())]
    if not names:
        raise UsageError(f"{text!r} is empty: give one or several names, separated by commas")
    return names


def chosen_from(option: str, known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a reader of lists of known names; it raises UsageError for an unknown one."""
    known = [*known]

    def read(text: str) -> list[str]:
        names = names_list(text)
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"{option} has no {unknown[0]!r}: use one or several of {','.join(known)}")
        return names

    return read


def read_fills(text: str) -> list[str]:
    """Read names of concealments; UsageError for an unknown one."""
    return chosen_from("--fill", CONCEALMENTS)(text)


def read_share(option: str, text: str) -> float:
    """Read `0.4` or `40%`; UsageError, which names the option, if it is no share."""
    try:
        return percentage(text)
    except click.BadParameter:
        raise UsageError(f"{option}: {text!r} is not a share from 0 to 1: write it as 40% or as 0.4") from None


def read_quantisers(text: str, cut: Cut) -> list[Quantiser]:
    """Read names of quantisers; UsageError for one that does not fit the cut."""
    return [chosen_quantiser(name, cut) for name in names_list(text)]


def read_estimators(text: str | None, option: str, labelled: bool) -> list[str]:
    """Read the estimators' names, by default the oracle and all of the edge's; UsageError for an unknown name.

    A name may also be a file from `gradfec train-proxy`. `labelled` says whether there are labels.
    """
    from gradfec_edge.importance import ESTIMATORS

    known = [ORACLE, *ESTIMATORS, f"proxy{UNCOMPENSATED}"]
    if text is None:
        return known
    names = names_list(text)
    if BY_LABEL in names and not labelled:
        raise UsageError(f"{option} {BY_LABEL} explains the label's class: give --labels, or use {ORACLE}")
    files = [name for name in names if name.removesuffix(UNCOMPENSATED).endswith(".npz")]
    return chosen_from(option, [*known, BY_LABEL, *files])(text)
