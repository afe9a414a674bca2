"""Frigate asks what is in its pictures: a source whose frames are the questions of its `zmq` detector."""

from gradfec_common.bottlenecks import base_of
from gradfec_common.errors import UsageError
from gradfec_common.heads import boxes
from gradfec_common.networks import Network
from gradfec_edge.frames import Asker, Warn
from gradfec_edge.frigate.protocol import SCHEME
from gradfec_host.extras import need


def open_detector(source: str, network: Network, warn: Warn) -> Asker | None:
    """Return where Frigate can ask what `network` finds, None if `source` is not such a place.

    UsageError if the network finds no boxes, GradfecError if nothing can be bound there.
    """
    if not source.startswith(f"{SCHEME}:"):
        return None
    if network.head.name != boxes.NAME:
        raise UsageError(f"Frigate asks for boxes, and {base_of(network).name} finds none: use --model with a detector")
    need("zmq")
    from gradfec_edge.frigate.detector import Detector

    return Detector(source, warn)
