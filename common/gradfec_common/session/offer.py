"""What a cloud offers: the cuts of networks that it continues from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, full_name
from gradfec_common.packets import PacketGrid
from gradfec_common.wire import MAX_TEXT_BYTES, Hello, Refuse

SHOWN_DIGEST_BYTES = 4  # enough for people to tell two networks apart


@dataclass(frozen=True)
class Accepted:
    """What an edge will send: tensors of a cut, in the packets of a grid."""

    cut: Cut
    grid: PacketGrid


@dataclass(frozen=True)
class Offer:
    """The cuts that a cloud continues from, at least one, of one network or several."""

    cuts: Sequence[Cut]

    def accept(self, wanted: Hello) -> Accepted | Refuse:
        """Return what an edge will send, or a refusal that tells the person at the edge what to change."""
        of_network = [cut for cut in self.cuts if cut.network.digest == wanted.model]
        if not of_network:
            return _refusal("model", f"this cloud has {self._networks()}, and the edge has {_shown(wanted.model)}")
        cut = next((cut for cut in of_network if cut.id == wanted.cut), None)
        if cut is None:
            names = [full_name(cut) for cut in of_network]
            there = f"use --split {names[0]} on the edge" if len(names) == 1 else "use --split with one of them"
            return _refusal("cut", f"this cloud continues from {', '.join(names)}: {there}")
        if wanted.cipher not in {*Cipher}:
            return _refusal("cipher", f"this cloud has no cipher {wanted.cipher}: update it")
        try:
            return Accepted(cut, PacketGrid(cut.shape, wanted.rows))
        except UsageError as error:
            return _refusal("rows", str(error))

    def _networks(self) -> str:
        networks = dict.fromkeys(cut.network for cut in self.cuts)
        return ", ".join(f"{network.name} ({_shown(network.digest)})" for network in networks)


def _shown(digest: bytes) -> str:
    return f"model {digest[:SHOWN_DIGEST_BYTES].hex()}"


def _refusal(reason: str, detail: str) -> Refuse:
    """Return a refusal whose words fit the message."""
    most = MAX_TEXT_BYTES // 2  # characters: names of layers may be any
    return Refuse(reason, detail if len(detail) <= most else f"{detail[: most - 3]}...")
