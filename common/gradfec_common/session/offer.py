"""The cuts that a cloud serves, and the forms of tensors that an edge sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradfec_common.bottlenecks import base_of
from gradfec_common.ciphers import Cipher
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Network, full_name
from gradfec_common.networks.imported import Imported
from gradfec_common.packets import PacketGrid
from gradfec_common.wire import MAX_TEXT_BYTES, Hello, Refuse

SHOWN_DIGEST_BYTES = 4  # enough for people to tell two networks apart
SAME_MODEL = "both ends must add a model from the same file, with the same options and bottleneck"
SHOWN_CUTS = 4  # of a network: a refusal must fit its message


@dataclass(frozen=True)
class Form:
    """A form of an edge's tensors: they are of a cut, in the packets of a grid."""

    cut: Cut
    grid: PacketGrid


@dataclass(frozen=True)
class Offer:
    """The cuts that a cloud continues from, at least one, of one network or several."""

    cuts: Sequence[Cut]

    def accept(self, wanted: Hello) -> dict[int, Form] | Refuse:
        """Return the forms that are served, by number, or a refusal that tells the person at the edge what to change.

        The cloud must serve form 0.
        """
        first = self._form(wanted.model, wanted.cut, wanted.rows)
        if isinstance(first, Refuse):
            return first
        if wanted.cipher not in {*Cipher}:
            return _refusal("cipher", f"this cloud has no cipher {wanted.cipher}: update it")
        others = {number: self._form(*form) for number, form in enumerate(wanted.also, 1)}
        return {0: first} | {number: form for number, form in others.items() if isinstance(form, Form)}

    def _form(self, model: bytes, number: int, rows: int) -> Form | Refuse:
        of_network = [cut for cut in self.cuts if cut.network.digest == model]
        if not of_network:
            cure = f"; {SAME_MODEL}" if any(isinstance(base_of(cut.network), Imported) for cut in self.cuts) else ""
            return _refusal("model", f"{self._networks()}; the edge asked for model {_shown(model)}{cure}")
        cut = next((cut for cut in of_network if cut.id == number), None)
        if cut is None:
            return _refusal("cut", _other_cut(of_network, number))
        try:
            return Form(cut, PacketGrid(cut.shape, rows, cut.pixels))
        except UsageError as error:
            return _refusal("rows", str(error))

    def _networks(self) -> str:
        by_network: dict[Network, list[Cut]] = {}
        for cut in self.cuts:
            by_network.setdefault(cut.network, []).append(cut)
        there = [
            f"{network.name} ({_shown(network.digest)}) at {_listed(cuts)}" for network, cuts in by_network.items()
        ]
        return f"this cloud has {' and '.join(there)}"


def _other_cut(there: Sequence[Cut], wanted: int) -> str:
    network = there[0].network
    cut = network.cut_by_id(wanted)
    asked = cut.name if cut else f"cut {wanted}"
    use = full_name(there[0]) if len(there) == 1 else "with one of these"
    return f"this cloud has {network.name} at {_listed(there)}, not at {asked}: use --split {use} on the edge"


def _listed(cuts: Sequence[Cut]) -> str:
    more = len(cuts) - SHOWN_CUTS
    names = [*(cut.name for cut in cuts[:SHOWN_CUTS]), *([f"{more} more"] if more > 0 else [])]
    return ", ".join(names)


def _shown(digest: bytes) -> str:
    return digest[:SHOWN_DIGEST_BYTES].hex()


def _refusal(reason: str, detail: str) -> Refuse:
    """Return a refusal with its text shortened to fit the message, because names of layers may have any length."""
    words = detail.encode()
    if len(words) <= MAX_TEXT_BYTES:
        return Refuse(reason, detail)
    return Refuse(reason, words[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "...")
