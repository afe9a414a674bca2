"""What a shell completes besides commands, options and choices: names that are known only when a user asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completing(names: Callable[[], Iterable[str]]) -> Complete:
    """Return click's `shell_complete` for one name or several with commas; if none fits, it is a file's."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        found = [CompletionItem(f"{before}{comma}{name}") for name in names() if name.startswith(last)]
        return found or [CompletionItem(incomplete, type="file")]

    return complete


def models() -> list[str]:
    """Return the built-in networks, and those that were added."""
    from gradfec_common.networks import NETWORKS

    return [*NETWORKS, *added_models()]


def added_models() -> list[str]:
    """Return the networks that were added."""
    from gradfec_host.models.store import added

    return added()


def codecs() -> list[str]:
    """Return what --codec takes, but for files and qualities."""
    from gradfec_common.quantisers import AUTO, QUANTISERS
    from gradfec_common.quantisers.laplace import Laplace

    return [AUTO, "bottleneck", *(name for name in QUANTISERS if name != Laplace.name)]


def policies() -> list[str]:
    """Return what --protect takes, with examples for policies that have parameters."""
    from gradfec_common.protect import POLICIES, fec, nested

    examples = {"FEC_A_B": fec.EXAMPLE, "nested:k1,k2,...": nested.EXAMPLE}
    return [examples.get(form, form) for form in POLICIES]
