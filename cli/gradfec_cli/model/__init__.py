"""`gradfec model`: add a network from an ONNX file, look at it, and export its halves."""

from __future__ import annotations

import click

from gradfec_cli.lazy import LazyGroup

COMMANDS = {
    "add": ("gradfec_cli.model.add", "Add an ONNX file, or a half from another machine."),
    "check": (
        "gradfec_lab.model_check",
        "Tell whether its input is prepared as in training, and its halves agree with the whole.",
    ),
    "export": ("gradfec_cli.model.files", "Write the half that a camera box, or a cloud, needs."),
    "learn": ("gradfec_lab.model_learn", "Learn from photographs which packets of its features matter."),
    "list": ("gradfec_cli.model.overview", "List the models that were added."),
    "remove": ("gradfec_cli.model.files", "Delete a model."),
    "try": ("gradfec_lab.model_try", "Send photographs through the real daemons over a bad link, and compare."),
    "show": ("gradfec_cli.model.overview", "Show how it is fed, what it answers, and where it can be split."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def model() -> None:
    """Bring your own network: add an ONNX file, check it, and run it split.

    \b
    gradfec model add yolo.onnx --labels coco.txt --preprocess unit
    gradfec model check yolo --images photos/
    gradfec-cloud --listen 9000 --model yolo
    gradfec-edge --camera /dev/video0 --cloud host:9000 --model yolo

    Both ends need the model. For a camera box, `gradfec model export --half edge` makes a folder with its half alone,
    which `gradfec model add` takes there.
    """
