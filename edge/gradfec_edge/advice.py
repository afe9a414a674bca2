"""Which options would help: a smaller frame for a slow link, more parity for a bad one, the cloud's for a refusal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gradfec_common.bottlenecks import base_of
from gradfec_common.codes import CODES, LEOPARD, ZFEC, ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.networks import Network
from gradfec_common.protect import NoProtection, Policy, UnequalProtection
from gradfec_common.quantisers import AUTO, QUANTISERS, chosen_quantiser
from gradfec_common.session.edge import Refused
from gradfec_edge.coding import BOTTLENECK, Coding, codec_file
from gradfec_host.codec_file import shipped_codec
from gradfec_host.quality import DEFAULT_QUALITY
from gradfec_host.recent import kilobytes

SMALLER_CODECS = ("sqrt2", "uniform4")
SMALLER_THAN = 0.95  # of a frame: less is not worth an option
LOSS_FOR_A = {ZFEC.name: 0.75, LEOPARD.name: 0.9}  # the loss that FEC_A_B repairs, as a share of A: gradfec bench codes
STEP_PERCENT = 5
MOST_PERCENT = 90


def smaller_frames(coding: Coding) -> list[str]:
    """Return the options that make frames smaller, each with the size that it leads to."""
    now = coding.check()
    if now is None:
        finer = "--quality" if coding.target is None else "--bytes-per-frame"
        return [f"a lower {finer}"] if coding.cut.masked else []
    found = dict.fromkeys(
        (option, size) for option, size in _sizes(coding) if size is not None and size < SMALLER_THAN * now
    )
    return [f"{option} ({kilobytes(size)})" for option, size in found]


def _sizes(coding: Coding) -> Iterator[tuple[str, int | None]]:
    shipped = shipped_codec(coding.cut)
    if shipped and (usual := shipped.measured(DEFAULT_QUALITY)):
        yield f"--codec {BOTTLENECK}", usual.bytes
    usual_quantiser = [] if codec_file(AUTO, coding.cut) else [AUTO]
    for name in usual_quantiser + [name for name in SMALLER_CODECS if QUANTISERS[name].fits(coding.cut)]:
        yield f"--codec {name}", _size(replace(coding, quantiser=chosen_quantiser(name, coding.cut)))
    yield "--protect none", _size(replace(coding, policy=NoProtection()))


def _size(coding: Coding) -> int | None:
    try:
        return coding.check()
    except UsageError:  # the policy has no plan for such packets
        return None


def protection_for(loss: float, policy: Policy, code: ErasureCode = ZFEC) -> str:
    """Return the option under which parity repairs a share `loss` of lost datagrams; empty if none does.

    `policy` is the one in use, which does not repair it, and `code` the one for another policy's parity.
    """
    used = policy.dropped_percent if isinstance(policy, UnequalProtection) else 0.0
    code = policy.code if isinstance(policy, UnequalProtection) else code
    needed = round(100 * loss / LOSS_FOR_A.get(code.name, LOSS_FOR_A[ZFEC.name]), 3)
    if needed <= used and code.name == ZFEC.name and LEOPARD.id in CODES:
        return "--fec leopard"  # its code words are longer: losses in bursts do not exceed them as soon
    percent = STEP_PERCENT * math.ceil(max(needed, used + STEP_PERCENT) / STEP_PERCENT)
    return f"--protect FEC_{percent}_{100 - percent}" if percent <= MOST_PERCENT else ""


def with_cure(refused: Refused, network: Network) -> Refused:
    """Return a refusal that also says what to start the cloud with, if it lacks this edge's network.

    The cloud lists its networks as `name (digest)`, and cannot name one that it does not have.
    """
    base = base_of(network)
    if refused.reason != "model" or f"{network.name} (" in refused.detail:
        return refused
    there = f"{base.name} (" in refused.detail
    cure = "give the cloud this edge's --codec" if there else f"start the cloud with --model {base.name}"
    return replace(refused, detail=f"{refused.detail}; this edge has {network.name}: {cure}")
