"""Choosing plans: for each slot, every plan of the grid with the setting that fits its bytes, then the best of them.

The setting follows from the sizes of the images to be measured, the plan from the answers to those for tuning.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import Console

from gradfec_lab.sweep.codecs import Codec
from gradfec_lab.sweep.ends import Ends
from gradfec_lab.sweep.equal_bytes.comparison import Comparison, Slot, own_bytes
from gradfec_lab.sweep.equal_bytes.plans import UNPROTECTED, drops, plans
from gradfec_lab.sweep.equal_bytes.sender import Picture, Scheme
from gradfec_lab.sweep.equal_bytes.trial import Networks, Trial, point_name, wanted_of
from gradfec_lab.sweep.study import Study, progress_bar

FIT_CHOICE, FIT_MEASURED = 40, 200  # images whose bytes are counted to find a setting
STAGES = ((0.2, 8), (0.5, 3), (1.0, 1))  # of tuning: a share of the images, and how many plans are left then
CROWDED = 0.03  # the largest share of frames for which a plan may have too little room


def candidates(comparison: Comparison, networks: Networks) -> dict[Slot, list[Scheme]]:
    """Return the schemes for each slot: its plans, each with the setting that fits its bytes."""
    return fitted(comparison, networks, FIT_CHOICE, {slot: policies_for(comparison, slot) for slot in comparison.slots})


def refitted(comparison: Comparison, networks: Networks, chosen: Mapping[Slot, Scheme]) -> dict[Slot, Scheme]:
    """Return the chosen plans with settings that fit more exactly; a slot that has none then is left out."""
    plans = {slot: [scheme.policy] for slot, scheme in chosen.items()}
    return {slot: some[0] for slot, some in fitted(comparison, networks, FIT_MEASURED, plans).items() if some}


def policies_for(comparison: Comparison, slot: Slot) -> list[str]:
    """Return the plans that are tried for a slot, as the user writes them."""
    (codec,) = (codec for codec in comparison.codecs if codec.name == slot.codec)
    if own_bytes(codec):
        return [*drops(slot.loss), UNPROTECTED] if slot.loss else [UNPROTECTED]
    return plans(slot.bytes, slot.loss, codec.coding.quantiser.needs)


def fitted(
    comparison: Comparison, networks: Networks, most: int, policies: Mapping[Slot, list[str]]
) -> dict[Slot, list[Scheme]]:
    """Return a scheme for each slot and plan that can be had, by the bytes of up to `most` images to be measured."""
    found: dict[Slot, list[Scheme]] = {}
    with progress_bar(Console(stderr=True, highlight=False), "plans") as progress:
        task = progress.add_task("fitting qualities to bytes", total=len(policies))
        for codec in comparison.codecs:
            fitting = Fitting(codec, pictures_of(comparison.study, codec, networks.of(codec), most))
            for slot in (slot for slot in policies if slot.codec == codec.name):
                settings = {policy: fitting.finest(policy, slot.bytes) for policy in policies[slot]}
                found[slot] = [Scheme(codec.name, of, policy) for policy, of in settings.items() if of is not None]
                progress.advance(task)
    return found


def pictures_of(study: Study, codec: Codec, ends: Ends, most: int) -> list[Picture]:
    """Return up to `most` of the study's pictures, to be coded; none if all frames have the same bytes."""
    if own_bytes(codec):
        return []
    images = (study.photographs.read(name) for name in study.names[:: -(-len(study.names) // most)])
    return [Picture(codec, ends.features(image)) for image in images if image is not None]


class Fitting:
    """Finds settings of one codec with which frames fit a number of bytes, on average over pictures."""

    def __init__(self, codec: Codec, pictures: list[Picture]) -> None:
        self._codec, self._pictures = codec, pictures
        self._known: dict[tuple[str, int], str | None] = {}

    def finest(self, policy: str, most: int) -> str | None:
        """Return the finest setting with which frames take at most `most` bytes on average; None if none does."""
        if (policy, most) not in self._known:
            settings = [*self._codec.quantisers]
            low, high = 0, len(settings)  # settings[:low] fit, settings[high:] do not
            while low < high:
                middle = (low + high) // 2
                fits = self._fits(Scheme(self._codec.name, settings[middle], policy), most)
                low, high = (middle + 1, high) if fits else (low, middle)
            self._known[policy, most] = settings[low - 1] if low else None
        return self._known[policy, most]

    def _fits(self, scheme: Scheme, most: int) -> bool:
        total, crowded = 0, 0
        for picture in self._pictures:
            sent = picture.sent(scheme)
            total += sent.wire_bytes if sent else 0
            crowded += sent.crowded if sent else 1
            if total > most * len(self._pictures) or crowded > CROWDED * len(self._pictures):
                return False
        return True


def choose(trial: Trial, schemes: Mapping[Slot, list[Scheme]]) -> dict[Slot, Scheme]:
    """Return the best scheme for each slot; a slot for which there is none is left out.

    In stages: many schemes on few images, then the best of them on more.
    """
    left = {slot: some for slot, some in schemes.items() if some}
    names = trial.study.names
    for number, (share, keep) in enumerate(STAGES, 1):
        usable = trial.run(
            names[: max(round(share * len(names)), 1)], wanted_of(left), f"choosing plans, {number} of {len(STAGES)}"
        )
        left = {slot: best(trial, usable, slot, some)[:keep] for slot, some in left.items()}
    return {slot: some[0] for slot, some in left.items()}


def best(trial: Trial, names: list[str], slot: Slot, schemes: list[Scheme]) -> list[Scheme]:
    """Return schemes by their agreement at a slot, the best one first; of equals, the one that came first."""
    agreement = trial.agreement(names, [point_name(scheme, slot.link) for scheme in schemes])
    return [schemes[i] for i in np.argsort(-np.array(agreement), kind="stable")]
