"""What answers while the cloud is away: a network that was added, whole, on the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.networks import Network
from gradfec_common.networks.carried import apart
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import seen_share, to_input
from gradfec_edge.frames import Image
from gradfec_host.extras import need
from gradfec_host.models import Model
from gradfec_host.models.find import imported_called
from gradfec_host.models.store import open_model

if TYPE_CHECKING:
    from gradfec_host.models.session import OnnxSession


class Fallback:
    """Pictures in, answers out, on ONNX Runtime; several threads may ask."""

    def __init__(self, model: Model) -> None:
        """Load the whole graph; GradfecError if it is not there, or cannot be run."""
        from gradfec_host.models.session import OnnxSession

        self._network = model.network
        self._run: OnnxSession = OnnxSession(model.whole(), self._network.name, self._network.outputs)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._network.name

    def __call__(self, frame: Image) -> Answer | None:
        """Return the answer for a BGR frame (height, width, 3) of any size, None if the network overflows on it."""
        network = self._network
        fed = apart((network.fed,), normalise(to_input(frame, network.preprocess), network.preprocess))
        try:
            answer = network.head.answer(network.head.condense(self._run(*fed)), network.class_names)
        except ValueError:
            return None
        return answer.placed(seen_share(frame, network.preprocess))


def fallback_model(name: str, instead_of: Network) -> Model:
    """Return the model that answers instead of a network; UsageError if it cannot."""
    network = imported_called(name)
    if network.head.name != instead_of.head.name:
        raise UsageError(
            f"--fallback {name} answers with {network.head.name}, and {instead_of.name} with {instead_of.head.name}: "
            "use a model of the same kind"
        )
    need("onnxruntime")
    return open_model(name)
