"""`gradfec sweep`: how losses change the answers, over a folder of images."""

from __future__ import annotations

import click

from gradfec_cli.lazy import LazyGroup

COMMANDS = {
    "importance": (
        "gradfec_lab.sweep.importance",
        "Drop packets by importance: does the answer stay the same? (Figure 5)",
    ),
    "protection": ("gradfec_lab.sweep.protection", "Lose packets, with and without protection. (Figure 6)"),
    "concealment": (
        "gradfec_lab.sweep.concealment",
        "Fill gaps in several ways, with and without parity: which keeps the answer?",
    ),
    "quantise": ("gradfec_lab.sweep.quantise", "Quantise features to a few bits: does the answer stay the same?"),
    "rate": ("gradfec_lab.sweep.rate", "Count the bytes of a frame: which codec keeps the answer in fewest bytes?"),
    "kept": (
        "gradfec_lab.sweep.kept",
        "Keep a share of a bottleneck's bytes: whose ranking keeps the answer? (Figure 5, over bytes)",
    ),
    "adapt": (
        "gradfec_lab.sweep.adapt",
        "Drive along links whose losses change: what does --protect auto make of them?",
    ),
    "cost": ("gradfec_lab.sweep.cost", "Measure what each estimator costs the edge, in milliseconds and bytes."),
    "all": ("gradfec_lab.sweep.everything", "Make every figure and table of docs/explanation/results.md."),
    "daemons": (
        "gradfec_lab.sweep.daemons",
        "Run images through the real edge, loss injector and cloud, and count every datagram.",
    ),
}


@click.command(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def sweep() -> None:
    """Measure over a folder of images how losses change the answers."""
