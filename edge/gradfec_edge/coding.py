"""How a camera's tensors become datagrams: packets, quantiser, policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_common.bottlenecks import WithBottleneck, base_of
from gradfec_common.codes import Each, fec_named
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_NETWORK, Cut, full_name
from gradfec_common.networks.imported import Imported
from gradfec_common.packets import PacketGrid, usual_rows
from gradfec_common.protect import (
    UNKNOWN_LINK,
    AutoProtection,
    LinkEstimate,
    Plan,
    Policy,
    Quality,
    Room,
    Worth,
    read_policy,
)
from gradfec_common.protect.auto import NAME as AUTO_PROTECT
from gradfec_common.protect.auto import usual_pictures
from gradfec_common.protect.worth import WHOLE_ONLY
from gradfec_common.quantisers import AUTO, Coded, Needs, Quantiser, chosen_quantiser, default_cut
from gradfec_common.quantisers.image import AVIF, ImageCodec
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.symbols import MAX_PACKET_BYTES
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for
from gradfec_common.wire import SEAL_BYTES
from gradfec_common.wire.symbol import layout_of
from gradfec_edge.compensation import compensated
from gradfec_edge.rate import ByteTarget, LinkTarget, PictureTarget, Target
from gradfec_host.codec_file import SUFFIX, CodecFile, codec_at, shipped_codec
from gradfec_host.models.find import learned_at, network_called, usual_cut_of
from gradfec_host.quality import DEFAULT_QUALITY, QUALITIES

Floats = npt.NDArray[np.float32]

BOTTLENECK = "bottleneck"  # the shipped one, as --codec
PROTECT_UNKNOWN = "FEC_20_80"  # the default for codecs whose worth was not measured
PICTURE_CODEC = ImageCodec(AVIF)  # at most as many bytes as WebP at the same agreement, and below 6 kB fewer
AUTO_AGREEMENT = 0.8  # with the uncut network, on held-out images: a bottleneck that keeps less must be asked for


@dataclass(frozen=True)
class Coding:
    """The choices for the tensors of a cut.

    A data symbol may hold `packets_a_datagram` packets, or as many as fit if that is None. With `compensate`, kept
    packets are scaled to make up for dropped ones, if the estimator provides the damage. A `target` makes
    the quantiser finer or coarser for each tensor. `form` is the number of such tensors in the edge's hello. Frames are
    planned as if the link carried at most `most_bytes` of each, parity included.
    """

    cut: Cut
    grid: PacketGrid
    quantiser: Quantiser
    policy: Policy
    packets_a_datagram: int | None = None
    compensate: bool = True
    target: Target | None = None
    form: int = 0
    most_bytes: float | None = None

    def encode(
        self, tensor: Floats, importance: Floats, damage: Floats | None, link: LinkEstimate, each: Each
    ) -> EncodedTensor:
        """Plan and code a (H, W, C) tensor; the arguments are those of `packets`, and `each` runs the codes' calls."""
        plan, coded = self.packets(tensor, importance, damage, link)
        return encode_tensor(coded, self.quantiser, plan, each, form=self.form)

    def packets(
        self, tensor: Floats, importance: Floats, damage: Floats | None, link: LinkEstimate
    ) -> tuple[Plan, Coded]:
        """Plan for a (H, W, C) tensor whose packets have the given `importance` (count,), and code them.

        Compensation needs `damage` (groups, C, C); it is None if the estimator does not provide it.
        """
        if self.most_bytes is not None:
            link = replace(link, frame_bytes=min(link.frame_bytes or math.inf, self.most_bytes))
        sizes, coded, agreement = self.quantiser.sizes(self.grid), None, None
        if sizes is None:  # they depend on the tensor, which must not change after the plan was made
            if self.target:
                coded, agreement = self.target.encode(tensor, self.grid, link)
            else:
                coded = self.quantiser.encode(tensor, self.grid)
            sizes = coded.packets.sizes
            importance = importance if coded.importance is None else coded.importance
        plan = self.plan(sizes, importance, link, agreement)
        if coded is None:
            if damage is not None and self.compensate:
                tensor = compensated(tensor, damage, plan.dropped, self.grid)
            coded = self.quantiser.encode(tensor, self.grid)
        return plan, coded

    def plan(
        self, sizes: npt.NDArray[np.intp], importance: Floats, link: LinkEstimate, agreement: float | None = None
    ) -> Plan:
        """Plan for packets of these coded sizes (count,) in bytes and this importance (count,).

        `agreement` is that of whole frames of the same quality, if it differs from frame to frame.
        """
        some = np.flatnonzero(sizes)  # the others have nothing to say
        policy = self.policy
        if agreement is not None and isinstance(policy, AutoProtection):
            policy = replace(policy, worth=Worth((Quality(0.0, float(sizes.sum()), agreement),), ()))
        plan = policy.plan(importance[some], sizes[some], link, self.room)
        return self._whole(plan).among(some, len(sizes))

    def check(self) -> int | None:
        """Return the bytes of UDP payload that a frame takes, None if they depend on it.

        UsageError if the policy has no plan for such packets.
        """
        plan = self.trial_plan()
        return None if plan is None else frame_bytes(plan, self.quantiser)

    def trial_plan(self) -> Plan | None:
        """Return the plan for packets of equal importance, None if their sizes depend on the frame; UsageError."""
        sizes = self.quantiser.sizes(self.grid)
        if sizes is None:
            smallest = np.ones(self.grid.count, np.intp)
            self._whole(self.policy.plan(np.zeros(self.grid.count, np.float32), smallest, UNKNOWN_LINK, self.room))
            return None
        if int(sizes.max()) > MAX_PACKET_BYTES:
            raise UsageError(f"a packet of {self.grid.rows} rows takes {int(sizes.max())} bytes: use smaller --rows")
        return self.policy.plan(np.zeros(self.grid.count, np.float32), sizes, UNKNOWN_LINK, self.room)

    def _whole(self, plan: Plan) -> Plan:
        """Return a plan; UsageError if it drops packets, and the quantiser needs all of them."""
        if self.quantiser.needs is Needs.ALL and len(plan.dropped):
            raise UsageError(
                f"{self.policy.name} drops {len(plan.dropped)} of {plan.total} packets, and {self.quantiser.name} "
                "needs all of them: use --protect none, or nested:k/n with a k that has room for the whole picture"
            )
        return plan

    def value(self, link: LinkEstimate) -> float:
        """Return what a frame is worth on a link, by the policy; of several codings, the highest value is best."""
        if isinstance(self.target, PictureTarget):
            return self.target.value(link)
        if not isinstance(self.policy, AutoProtection):
            return 0.0
        sizes = None if self.policy.worth.qualities else self.quantiser.sizes(self.grid)
        return self.policy.value(link, self.room, sizes)

    @property
    def can_adapt(self) -> bool:
        """Whether frames are small enough to change with the link: latents and pictures are."""
        return self.cut.masked or self.quantiser.needs is not Needs.NOTHING

    @property
    def codec(self) -> str:
        """The name for `--codec`: without the quality, if the link decides that."""
        return BOTTLENECK if self.cut.masked else self.quantiser.name.partition(":" if self.target else "\n")[0]

    @property
    def split(self) -> str:
        """The name of the cut; for a bottleneck, of the one in front of it."""
        network = self.cut.network
        return network.at.name if isinstance(network, WithBottleneck) else self.cut.name

    @property
    def room(self) -> Room:
        """What a datagram has room for."""
        return room_for(self.quantiser.parameter_bytes, self.packets_a_datagram)


def coding_of(
    cut: Cut,
    rows: int | None,
    codec: str,
    protect: str | None,
    fec: str,
    packets_a_datagram: int | None = None,
    compensate: bool = True,
    quality: float | None = None,
    bytes_a_frame: int | None = None,
) -> Coding:
    """Return the coding that the edge's options name; UsageError if they do not go together, or with the cut.

    Without `protect`, the link decides; without `rows`, they are those of the codec.
    """
    file = codec_file(codec, cut)
    policy = read_policy(protect or _usual_protection(codec, cut, file), fec_named(fec))
    if quality is not None and bytes_a_frame is not None:
        raise UsageError("--quality and --bytes-per-frame both say how finely latents are rounded: give one of them")
    if file:
        coding = _latents_coding(file, rows, policy, packets_a_datagram, quality, bytes_a_frame)
    elif quality is not None or bytes_a_frame is not None:
        option = "--quality" if bytes_a_frame is None else "--bytes-per-frame"
        raise UsageError(f"{option} is for bottlenecks, and --codec {codec} at {cut.name} is none")
    else:
        quantiser = chosen_quantiser(codec, cut)
        coding = Coding(cut, _grid(cut, rows), quantiser, _informed(policy, cut, quantiser), packets_a_datagram)
    coding = replace(coding, compensate=compensate)
    coding.check()
    return coding


def _latents_coding(
    file: CodecFile,
    rows: int | None,
    policy: Policy,
    packets_a_datagram: int | None,
    quality: float | None,
    bytes_a_frame: int | None,
) -> Coding:
    """Return the coding of a bottleneck's latents, as finely as the user asks for, or as the link decides."""
    quantiser = Laplace(file.step(DEFAULT_QUALITY if quality is None else quality))
    if isinstance(policy, AutoProtection) and file.worth:
        policy = replace(policy, worth=worth_at(file.worth, quality, bytes_a_frame))
    coding = Coding(file.latents, _grid(file.latents, rows or file.rows), quantiser, policy, packets_a_datagram)
    if bytes_a_frame is not None:
        return replace(coding, target=ByteTarget(bytes_a_frame, file.step, (QUALITIES[0], QUALITIES[-1])))
    if isinstance(policy, AutoProtection) and file.worth and quality is None:
        return replace(coding, target=LinkTarget(policy, coding.room, file.step, QUALITIES[0]))
    return coding


def _informed(policy: Policy, cut: Cut, quantiser: Quantiser) -> Policy:
    """Return a policy that knows what a part of a picture, or of an imported network's features, is worth."""
    if not isinstance(policy, AutoProtection):
        return policy
    if quantiser.needs is not Needs.NOTHING:  # a picture
        return replace(policy, worth=WHOLE_ONLY)
    if isinstance(cut.network, Imported):
        learned = learned_at(cut)  # without it, nothing says what a part of its tensors is worth
        return replace(policy, worth=learned.worth if learned else WHOLE_ONLY)
    return policy


def _grid(cut: Cut, rows: int | None) -> PacketGrid:
    return PacketGrid(cut.shape, rows or usual_rows(cut.shape, pixels=cut.pixels is not None), cut.pixels)


def picture_coding(coding: Coding) -> Coding | None:
    """Return how to send a picture in place of features where that is worth more.

    None if `coding` does not adapt, or if even coarse pictures are too large.
    """
    if not isinstance(coding.policy, AutoProtection) or coding.cut.pixels is not None:
        return None
    base = base_of(coding.cut.network)
    room = room_for(PICTURE_CODEC.parameter_bytes)
    cut, policy = base.cut(base.input.name), replace(coding.policy, worth=_worth_of_pictures(coding.cut, room))
    try:
        policy.choose(UNKNOWN_LINK, room)
    except UsageError:
        return None
    target = PictureTarget(policy, room, PICTURE_CODEC)
    return Coding(cut, _grid(cut, None), PICTURE_CODEC, policy, target=target, form=1)


def look_coding(coding: Coding, target: Target) -> Coding:
    """Return how to send the picture for a second look, protected as `coding` is; `target` says how fine it is."""
    base = base_of(coding.cut.network)
    cut = base.cut(base.input.name)
    policy = _informed(coding.policy, cut, PICTURE_CODEC)
    return Coding(cut, _grid(cut, None), PICTURE_CODEC, policy, target=target)


def _worth_of_pictures(cut: Cut, room: Room) -> Worth:
    """Return what pictures are worth to the network of a cut, as far as that was measured."""
    at = cut.network.at if isinstance(cut.network, WithBottleneck) else cut
    learned = learned_at(at) if isinstance(at.network, Imported) else None
    height, width = at.network.preprocess.size
    return Worth(learned.pictures, ()) if learned and learned.pictures else usual_pictures(height * width, room)


def _usual_protection(codec: str, cut: Cut, file: CodecFile | None) -> str:
    """Return `auto` for frames of which we know what they are worth, otherwise what costs next to nothing.

    Of an imported network of which nothing was learned, we take all packets to be needed.
    """
    if file:
        return AUTO_PROTECT if file.worth is not None else PROTECT_UNKNOWN
    whole = isinstance(cut.network, Imported) or chosen_quantiser(codec, cut).needs is not Needs.NOTHING
    return AUTO_PROTECT if whole else PROTECT_UNKNOWN


def worth_at(worth: Worth, quality: float | None, bytes_a_frame: int | None) -> Worth:
    """Return the worth of frames of one quality, or of `bytes_a_frame`, if the user wants one of them."""
    if bytes_a_frame is not None:
        return replace(worth, qualities=(Quality(0.0, float(bytes_a_frame), worth.agreement(bytes_a_frame)),))
    if quality is not None:
        return replace(worth, qualities=tuple(one for one in worth.qualities if one.quality == quality))
    return worth


def usual_cut(codec: str, model: str | None = None) -> Cut:
    """Return the cut of `--model` for `--codec` if the user names none; UsageError if there is no such codec."""
    if codec.endswith(SUFFIX):
        file = codec_at(Path(codec))
        return file.cut if model is None else file.at(network_called(model).cut(str(file.about["cut"]))).cut
    return default_cut(AUTO if codec == BOTTLENECK else codec, usual_cut_of(model or DEFAULT_NETWORK))


def codec_file(codec: str, cut: Cut) -> CodecFile | None:
    """Return the codec file that `--codec` names, or None for a quantiser; UsageError if it is not for the cut.

    `auto` is the bottleneck that is shipped, or in the model's folder, if it keeps most answers at the default quality.
    """
    if codec.endswith(SUFFIX):
        return codec_at(Path(codec), cut)
    if codec not in (AUTO, BOTTLENECK):
        return None
    shipped = shipped_codec(cut)
    if shipped is None and codec == BOTTLENECK:
        raise UsageError(f"there is no bottleneck for the split {full_name(cut)}: train one with gradfec train-codec")
    if shipped and codec == AUTO:
        usual = shipped.measured(DEFAULT_QUALITY)
        return shipped if usual and usual.agreement >= AUTO_AGREEMENT else None
    return shipped


def frame_bytes(plan: Plan, quantiser: Quantiser) -> int:
    """Return the bytes of UDP payload of a tensor sent as planned."""
    stripes = len(plan.groups[0].stripes)
    return plan.sent * (SEAL_BYTES + layout_of(stripes, quantiser.parameter_bytes).header + plan.symbol_bytes)
