"""The command `gradfec`: everything but the daemons. Subcommands are imported only when they are run."""

from __future__ import annotations

import click

from gradfec_cli.lazy import LazyGroup

COMMANDS = {
    "bench": ("gradfec_lab.bench", "Measure what each part of the way costs on this machine."),
    "config": ("gradfec_cli.config_command", "Show and check what may stand in the daemons' settings files."),
    "demo": ("gradfec_cli.demo", "Run the whole system on this machine over a bad link, and compare."),
    "doctor": ("gradfec_cli.doctor", "Look for what usually goes wrong, and say how to mend it."),
    "health": ("gradfec_cli.health", "Ask a daemon whether it is alive, or ready."),
    "keygen": ("gradfec_cli.keygen", "Make the key that an edge and its cloud share, or copy it by hand."),
    "show": ("gradfec_cli.show", "Draw what becomes of a photograph: features, plan, losses, answer."),
    "sweep": ("gradfec_lab.sweep", "Measure answers against losses, over a folder of images."),
    "train-proxy": ("gradfec_lab.training.train_command", "Train an importance estimator for the edge."),
    "weights": ("gradfec_cli.weights_command", "Fetch, verify and show ResNet-50's ImageNet weights."),
}


@click.command(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradfec")
def main() -> None:
    """Split inference that survives a bad network. The daemons are gradfec-edge, gradfec-cloud and gradfec-netem."""
