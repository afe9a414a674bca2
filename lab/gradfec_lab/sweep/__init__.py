"""`gradfec sweep`: answers against losses, over a folder of images."""

from __future__ import annotations

import click

from gradfec_cli.lazy import LazyGroup

COMMANDS = {
    "importance": ("gradfec_lab.sweep.importance", "Drop packets by importance: does the answer stand? (Figure 5)"),
    "protection": ("gradfec_lab.sweep.protection", "Lose packets, with and without protection. (Figure 6)"),
    "quantise": ("gradfec_lab.sweep.quantise", "Quantise features to few bits: does the answer stand?"),
    "cost": ("gradfec_lab.sweep.cost", "What each estimator costs the edge, in milliseconds and bytes."),
    "all": ("gradfec_lab.sweep.everything", "Every figure and table of docs/RESULTS.md."),
    "daemons": ("gradfec_lab.sweep.daemons", "Through the real edge, loss injector and cloud, every datagram counted."),
}


@click.command(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def sweep() -> None:
    """Measure answers against losses, over a folder of images."""
