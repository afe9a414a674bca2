"""Toy models in the place of the networks, for daemons that run as scripts."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from importlib import import_module


def put_in_place(front_end: type, back_end: type) -> None:
    """Let the modules that import a runtime be found imported already, with these models."""
    for module, name, model in (
        ("gradfec_edge.frontend.litert_runtime", "LiteRTFrontEnd", front_end),
        ("gradfec_cloud.backend.litert_runtime", "LiteRTBackEnd", back_end),
    ):
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], name, model)


def run(package: str, arguments: Sequence[str]) -> None:
    """Run the daemon of a package in this process."""
    import_module(f"{package}.cli").main([*arguments], prog_name=package.replace("_", "-"))
