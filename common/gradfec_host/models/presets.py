"""How pictures become a network's input, by the names that people know. To add one: a line in PRESETS."""

from __future__ import annotations

from dataclasses import replace

from gradfec_common.errors import UsageError
from gradfec_common.networks import Preprocess

Colours = tuple[float, float, float]

KEEP = 0.875  # of the short side: torchvision crops 224 of 256

PRESETS = {
    "imagenet-torch": Preprocess(
        0,
        0,
        "rgb",
        (0.485 * 255, 0.456 * 255, 0.406 * 255),  # ImageNet's, as torchvision has them
        (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
        fit="crop",
        keep=KEEP,
    ),
    "imagenet-tf": Preprocess(0, 0, "rgb", (127.5,) * 3, (1 / 127.5,) * 3),  # -1 to 1
    "imagenet-caffe": Preprocess(0, 0, "bgr", (103.939, 116.779, 123.68)),
    "unit": Preprocess(0, 0, "rgb", scales=(1 / 255,) * 3),  # 0 to 1
    "raw": Preprocess(0, 0, "rgb"),  # 0 to 255
}


def resized(preprocess: Preprocess, size: tuple[int, int]) -> Preprocess:
    """Return a preprocessing for pictures of another size (height, width)."""
    return replace(preprocess, height=size[0], width=size[1])


def levels_in_words(preprocess: Preprocess) -> str:
    """Return what is done to a pixel's levels: the name of a preset that does the same, or the numbers."""
    for name, preset in PRESETS.items():
        if (preset.order, preset.means, preset.scales) == (preprocess.order, preprocess.means, preprocess.scales):
            return f"levels as in {name}"
    means = ", ".join(f"{mean:g}" for mean in preprocess.means)
    return f"levels minus {means}, divided by {', '.join(f'{1 / scale:g}' for scale in preprocess.scales)}"


def preprocess_of(
    preset: str,
    size: tuple[int, int],
    fit: str | None = None,
    order: str | None = None,
    means: Colours | None = None,
    deviations: Colours | None = None,
) -> Preprocess:
    """Return a preset for pictures of `size` (height, width), with what differs from it; UsageError for a wrong one.

    `means` and `deviations` are in levels of 0 to 255.
    """
    if preset not in PRESETS:
        raise UsageError(f"no preprocessing is called {preset!r}: use one of {', '.join(PRESETS)}")
    chosen = resized(PRESETS[preset], size)
    if fit:
        chosen = replace(chosen, fit=fit, keep=chosen.keep if fit == chosen.fit else 1.0)
    if order:
        chosen = replace(chosen, order=order)
    if means:
        chosen = replace(chosen, means=means)
    if deviations:
        if min(deviations) <= 0:
            raise UsageError(f"--std {','.join(map(str, deviations))}: a deviation is above zero")
        red, green, blue = deviations
        chosen = replace(chosen, scales=(1 / red, 1 / green, 1 / blue))
    return chosen
