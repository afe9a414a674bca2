"""The command `gradfec`: everything but the daemons. A subcommand is imported only when it runs."""

from __future__ import annotations

import click

from gradfec_cli.lazy import LazyGroup
from gradfec_host.console import version_option

COMMANDS = {
    "bench": ("gradfec_lab.bench", "Measure what each step of a frame costs on this machine."),
    "config": ("gradfec_cli.config_command", "Explain and check the daemons' settings files."),
    "demo": ("gradfec_cli.demo", "Run the whole system on this machine over a bad link, and compare the answers."),
    "doctor": ("gradfec_cli.doctor", "Look for common problems, and say how to fix them."),
    "health": ("gradfec_cli.health", "Ask a daemon whether it is alive, or ready."),
    "keygen": ("gradfec_cli.keygen", "Make the key that an edge and its cloud share, or copy it by hand."),
    "model": ("gradfec_cli.model", "Bring your own network: add, check, show and export ONNX files."),
    "plan": ("gradfec_lab.plan.command", "Measure where to split a network for your link."),
    "show": ("gradfec_cli.show", "Draw what becomes of a photograph: features, plan, losses, answer."),
    "sweep": ("gradfec_lab.sweep", "Measure over a folder of images how losses change the answers."),
    "train-backend": ("gradfec_lab.training.backend_command", "Train a back-end that expects missing packets."),
    "train-codec": ("gradfec_lab.training.codec_command", "Train a bottleneck, which makes frames small."),
    "train-concealment": (
        "gradfec_lab.training.concealment_command",
        "Learn how the channels of a cut depend on each other, to fill gaps.",
    ),
    "train-fill": ("gradfec_lab.training.fill_command", "Train the network that fills gaps in a cut's tensors."),
    "train-proxy": ("gradfec_lab.training.train_command", "Train an importance estimator for the edge."),
    "weights": ("gradfec_cli.weights_command", "Download, verify and show ResNet-50's ImageNet weights."),
}

DAEMONS = ("edge", "cloud", "netem")


class Main(LazyGroup):
    """The commands, and where the daemons are for who looks for them here."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; UsageError that names the daemon if it is one."""
        if cmd_name in DAEMONS:
            ctx.fail(f"{cmd_name!r} is a command of its own: write gradfec-{cmd_name}, with a hyphen")
        return super().get_command(ctx, cmd_name)


@click.command(cls=Main, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """Split inference that survives a bad link. The daemons are gradfec-edge, gradfec-cloud and gradfec-netem."""
