"""Protection: plans, and the policies that make them. Each policy is a file here and a line in POLICIES."""

from __future__ import annotations

from collections.abc import Callable

from gradfec_common.codes import ZFEC, ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.protect import auto, fec, nested, none
from gradfec_common.protect.auto import AutoProtection
from gradfec_common.protect.fec import UnequalProtection
from gradfec_common.protect.link import UNKNOWN_LINK, LinkEstimate, LinkWatch
from gradfec_common.protect.nested import NestedProtection
from gradfec_common.protect.none import NoProtection
from gradfec_common.protect.plan import Group, Plan, Stripe
from gradfec_common.protect.policy import Policy, Room
from gradfec_common.protect.worth import Quality, Worth

__all__ = [
    "POLICIES", "UNKNOWN_LINK", "AutoProtection", "Group", "LinkEstimate", "LinkWatch", "NestedProtection",
    "NoProtection", "Plan", "Policy", "Quality", "Room", "Stripe", "UnequalProtection", "Worth", "read_policy",
]  # fmt: skip

ReadPolicy = Callable[[str, ErasureCode], "Policy | None"]  # None if the text is of another policy

POLICIES: dict[str, ReadPolicy] = {  # by the form that the user writes
    "auto": auto.read_policy,
    "none": none.read_policy,
    "FEC_A_B": fec.read_policy,
    "nested:k1,k2,...": nested.read_policy,
}


def read_policy(text: str, code: ErasureCode = ZFEC) -> Policy:
    """Return the policy that the user wrote, with `code` for its parity; UsageError if there is none."""
    for read in POLICIES.values():
        if (policy := read(text, code)) is not None:
            return policy
    raise UsageError(
        f"{text!r} is no protection policy: use one of {'  '.join(POLICIES)}, for example {fec.EXAMPLE} or "
        f"{nested.EXAMPLE}"
    )
