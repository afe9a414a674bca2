"""Modes: sets of options with a name. An option that the user gives overrides the mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]  # by their names

DEFAULTS: Options = {"codec": "auto", "fec": "zfec"}  # those of --protect and --split follow from the codec
MODES: dict[str, Options] = {
    # The paper: 8 bits an element, each packet a symbol of its own, FEC_A_B, packets ranked by a proxy of Grad-CAM.
    "paper": {
        "codec": "uniform8",
        "packets_per_datagram": 1,
        "importance": "proxy",
        "protect": "FEC_20_80",
        "fec": "zfec",
    },
}


def with_mode(options: Options) -> dict[str, Any]:
    """Fill in options that are None, and so were not given: from the mode, or else from the defaults."""
    mode = options["mode"]
    implied = {**DEFAULTS, **(MODES[mode] if mode else {})}
    return {**options, **{name: value for name, value in implied.items() if options[name] is None}}
