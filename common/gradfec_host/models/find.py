"""Networks and cuts by name: the built-in ones and those that the user has added."""

from __future__ import annotations

from collections.abc import Iterable

from gradfec_common.bottlenecks import base_of
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import DEFAULT_CUT, DEFAULT_NETWORK, NETWORKS, Cut, Network
from gradfec_common.networks.imported import Imported
from gradfec_host.extras import need
from gradfec_host.models.learned import Learned, read_learned
from gradfec_host.models.store import Model, added, open_model
from gradfec_host.runtimes import NO_RUNTIME, ONNX, choose_runtime


def network_called(name: str) -> Network:
    """Return a built-in network, or one that was added; UsageError, with the names, if there is none.

    GradfecError if its folder cannot be read.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    names = added()
    if name not in names:
        there = ", ".join([*NETWORKS, *names])
        raise UsageError(
            f"no model is called {name!r}: use one of {there}, or add one with gradfec model add FILE.onnx"
        )
    return open_model(name).network


def imported_called(name: str) -> Imported:
    """Return a network that was added; UsageError for a built-in one, or if there is none."""
    network = network_called(name)
    if not isinstance(network, Imported):
        raise UsageError(f"{name} is built in, and this is for models that were added by gradfec model add")
    return network


def imported_of_digest(digest: bytes) -> Imported | None:
    """Return the network of that digest that was added, or None; GradfecError if a model's folder cannot be read."""
    networks = (open_model(name).network for name in added())
    return next((network for network in networks if network.digest == digest), None)


def model_of(network: Network) -> Model:
    """Return the model of a network that was added; GradfecError if its folder has become another one's."""
    model = open_model(network.name)
    if model.network.digest != network.digest:
        raise GradfecError(f"the model {network.name} was replaced meanwhile: start again")
    return model


def cut_called(text: str, model: str | None = None) -> Cut:
    """Return the cut `LAYER` of a model, by default of ResNet-50, or `MODEL:LAYER`; UsageError if there is none."""
    prefix, colon, layer = text.partition(":")
    known = prefix in NETWORKS or prefix in added()
    if colon and (known or model is None):
        if model not in (None, prefix):
            raise UsageError(f"--split {text} is of the model {prefix}, and --model is {model}: leave one of them out")
        return network_called(prefix).cut(layer)
    return network_called(model or DEFAULT_NETWORK).cut(text)


def usual_cut_of(model: str) -> Cut:
    """Return the cut of a model if the user names none; UsageError if there is no such model."""
    network = network_called(model)
    return network.usual_cut if isinstance(network, Imported) else network.cut(DEFAULT_CUT)


def learned_at(cut: Cut) -> Learned | None:
    """Return what was learned for a cut of a model that was added, or None; GradfecError if the file is damaged."""
    return read_learned(model_of(cut.network).folder, cut)


def runtime_for(name: str, networks: Iterable[Network]) -> str:
    """Return what is to run these networks, `name` if any is built in; UsageError if it is not installed."""
    kinds = {isinstance(base_of(network), Imported) for network in networks}
    if True in kinds:
        need("onnxruntime")
    if False in kinds:
        return choose_runtime(name)
    return ONNX if kinds else NO_RUNTIME
