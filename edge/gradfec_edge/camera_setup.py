"""What follows from a camera's options: how its frames become datagrams, and which of them get a second look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from gradfec_common.bottlenecks import base_of
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_NETWORK, Cut, full_name
from gradfec_common.protect import AutoProtection, NoProtection
from gradfec_common.protect.auto import NAME as AUTO_PROTECT
from gradfec_common.quantisers import AUTO
from gradfec_edge.auto_split import SPLIT as AUTO_SPLIT
from gradfec_edge.auto_split import AutoSplit, Prepared, Say, prepare
from gradfec_edge.coding import PICTURE_CODEC, Coding, coding_of, look_coding, picture_coding, usual_cut
from gradfec_edge.design import Design, Graph
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.modes import with_mode
from gradfec_edge.pipeline import Pipeline
from gradfec_edge.second_look import Limit, LookOptions, PictureOfQuality, Savings, Score
from gradfec_host.console import Endpoint
from gradfec_host.models import cut_called, network_called
from gradfec_host.quality import MEAN_FROM

AT_LATEST_S = 1.0  # after a frame was taken, its second answer should be there
SHARE_OF_TIMEOUT = 0.5  # or earlier, if the user gives up earlier


@dataclass(frozen=True)
class CameraOptions:
    """What the user asked for of one camera: the options of the command line, by their names."""

    camera: str
    cloud: Endpoint
    name: str
    model: str | None
    mode: str | None
    codec: str
    packets_per_datagram: int | None
    protect: str | None
    fec: str
    importance: str | None
    compensate: bool | None
    rows: int | None
    quality: int | None
    bytes_per_frame: int | None
    second_look: float | None
    split: str | None
    plan: Path | None
    fallback: str | None
    fps: float | None
    loop: bool
    wait: float
    in_flight: int
    timeout_ms: int
    rate: float | None
    max_rate: float | None
    queue_ms: int
    results: str | None
    key_file: Path | None
    insecure: bool
    udp: str
    seed: int
    thumbnail: bool


def options_of(settings: Mapping[str, Any]) -> CameraOptions:
    """Take a camera's options out of all settings, with those that its mode implies."""
    complete = with_mode(settings)
    return CameraOptions(**{field.name: complete[field.name] for field in fields(CameraOptions)})


class Look(NamedTuple):
    """How frames get a second look: as pictures of that design, coded by that target, below that limit."""

    design: Design
    picture: PictureOfQuality
    limit: Limit


def limit_in_words(limit: Limit) -> str:
    """Say which answers get a second look."""
    if isinstance(limit, Savings):
        return f"as {limit.frame_bytes} bytes a frame allow"
    return f"below {limit.unsure_below:g}"


def coding_for(options: CameraOptions, bytes_a_frame: int | None) -> Coding:
    """Return the coding that the options name; UsageError if they contradict each other."""
    return coding_of(
        cut_called(options.split, options.model) if options.split else usual_cut(options.codec, options.model),
        options.rows,
        options.codec,
        options.protect,
        options.fec,
        options.packets_per_datagram,
        options.compensate is not False,
        options.quality,
        bytes_a_frame,
    )


class CameraSetup:
    """How a camera's frames become datagrams, by its options; UsageError if these do not go together.

    Most or all frames follow `design`. The `others` are for frames that are worth more, or faster, that way: pictures,
    or with --split auto the other ways that were measured.
    """

    def __init__(self, options: CameraOptions) -> None:
        """Decide everything that needs neither key nor network; UsageError if options contradict each other."""
        self.prepared = prepared_for(options) if options.split == AUTO_SPLIT else None
        self.look: Look | None = None
        if self.prepared:
            self.design, *self.others = self.prepared.listed
            self.coding, self.frame_bytes = self.design.coding, None
            return
        self.coding = coding_for(options, options.bytes_per_frame)
        limit = self._unsure(options)
        says_how_fine = options.quality or (options.second_look and options.bytes_per_frame)
        if limit and not says_how_fine:
            self.coding = replace(coding_for(options, limit.first_bytes), most_bytes=limit.most_bytes)
        self.frame_bytes = self.coding.check()
        self.design = Design(self.coding, options.importance, options.seed)
        if options.compensate and not self.design.compensates:
            raise UsageError(
                f"--compensate is for features without a bottleneck, ranked by the proxy, and not for --codec "
                f"{options.codec} with --importance {self.design.importance}: leave it out"
            )
        asked = options.split or options.quality or options.bytes_per_frame or limit
        picture = picture_coding(self.coding) if options.codec == AUTO and not asked else None
        self.others = [Design(picture)] if picture else []
        self.look = self._second_look(limit) if limit else None

    def _unsure(self, options: CameraOptions) -> Limit | None:
        """Return below which score an answer gets a second look; None if none does. UsageError if none can.

        Whoever names a codec or a split gets no pictures, unless they ask for second looks.
        """
        score, mean, coding = options.second_look, options.bytes_per_frame or 0, self.coding
        has_scores = coding.cut.network.head.no_answer.sureness() is not None
        adapts = isinstance(coding.policy, AutoProtection | NoProtection)
        if score is None:
            usual = options.codec == AUTO and not options.split
            return Savings(mean) if mean >= MEAN_FROM and has_scores and adapts and usual else None
        if score == 0:
            return None
        option = f"--second-look {score:g} is"
        if not coding.cut.masked:
            raise UsageError(
                f"{option} for bottlenecks, whose frames are smaller than pictures, and --codec {options.codec} at "
                f"{coding.cut.name} is none"
            )
        if not has_scores:
            raise UsageError(f"{option} for classifiers: answers of {base_of(coding.cut.network).name} have no score")
        if not adapts:
            raise UsageError(f"{option} for --protect auto or none, and not for {coding.policy.name}")
        return Score(score)

    def _second_look(self, limit: Limit) -> Look:
        picture = PictureOfQuality(PICTURE_CODEC)
        forms = self.forms
        coding = look_coding(self.coding, picture)
        form = coding.cut, coding.grid.rows
        number = forms.index(form) if form in forms else len(forms)
        return Look(Design(replace(coding, form=number)), picture, limit)

    @property
    def designs(self) -> list[Design]:
        """How frames may be sent: as most are, in the other ways, and for a second look."""
        return [self.design, *self.others, *([self.look.design] if self.look else [])]

    @property
    def forms(self) -> list[tuple[Cut, int]]:
        """The cut and the rows of each form of tensors."""
        return [*dict.fromkeys((one.coding.cut, one.coding.grid.rows) for one in self.designs)]

    def pipeline(self, front_ends: Mapping[Graph, FrontEnd], interval_s: float | None, say: Say) -> Pipeline:
        """Set up the pipeline for frames that come every `interval_s`; `say` is told of the splits that are chosen."""
        others = [one.pipeline(front_ends[one.graph]) for one in self.others]
        if self.prepared is None:
            return self.design.pipeline(front_ends[self.design.graph], others)
        return self.design.pipeline(front_ends[self.design.graph], others, AutoSplit(self.prepared, interval_s, say))

    def look_options(self, front_ends: Mapping[Graph, FrontEnd], timeout_s: float) -> LookOptions | None:
        """Return what second looks are to be if an answer is awaited for `timeout_s`; None if there are none."""
        if self.look is None:
            return None
        design, picture, limit = self.look
        within_s = min(AT_LATEST_S, SHARE_OF_TIMEOUT * timeout_s)
        return LookOptions(design.pipeline(front_ends[design.graph]), picture, limit, within_s)

    def settings(self, options: CameraOptions) -> dict[str, object]:
        """Return what was decided, by name."""
        coding = self.coding
        codecs = [*dict.fromkeys(one.coding.codec for one in self.designs)]
        return {
            "mode": options.mode,
            "split": f"{AUTO_SPLIT}: {', '.join(self.prepared.cuts)}" if self.prepared else full_name(coding.cut),
            "rows": coding.grid.rows,
            "packets": coding.grid.count,
            "codec": " or ".join(codecs),
            **({"quality": options.quality} if options.quality else {}),
            **({"bytes_per_frame": options.bytes_per_frame} if options.bytes_per_frame else {}),
            **({"second_look": limit_in_words(self.look.limit)} if self.look else {}),
            "packets_per_datagram": options.packets_per_datagram or "fit",
            "frame_bytes": self.frame_bytes,
            "protect": coding.policy.name,
            "fec": options.fec,
            "importance": self.design.importance,
            "compensate": self.design.compensates,
        }


def prepared_for(options: CameraOptions) -> Prepared:
    """Return what --split auto prepares a camera's session for; UsageError if other options contradict it."""
    decided_by_it = ("mode", "rows", "quality", "bytes_per_frame", "importance", "compensate", "packets_per_datagram")
    given = [name for name in decided_by_it if getattr(options, name) is not None]
    given += ["codec"] if options.codec != AUTO else []
    given += ["protect"] if options.protect not in (None, AUTO_PROTECT) else []
    given += ["second_look"] if options.second_look else []
    if given:
        option = given[0].replace("_", "-")
        raise UsageError(f"--split {AUTO_SPLIT} decides this, as gradfec plan has measured it: leave --{option} out")
    return prepare(network_called(options.model or DEFAULT_NETWORK), options.plan, options.fec)
