"""What each protection policy does, in one sentence, by the name that the user writes."""

from __future__ import annotations

import re

AUTO, NONE = "auto", "none"
UNKNOWN = ""  # on the cloud's page


def explained(name: str) -> str:
    """Say what a policy does; return "" for one that is not built in."""
    if name == AUTO:
        return "auto: the link decides how fine a frame is, and how much parity protects it."
    if name == NONE:
        return "none: every packet that is not all zeros is sent, and nothing repairs what the link loses."
    if match := re.fullmatch(r"FEC_([\d.]+)_([\d.]+)", name):
        dropped, kept = match.groups()
        return (
            f"{name}: the {dropped} % of the packets that matter least are not sent. Parity takes their place, and "
            f"repairs losses among the other {kept} %."
        )
    if match := re.fullmatch(r"nested:(\d+)(?:,\d+)*?(?:,(\d+))?(?:/(\d+))?", name):
        first, last, n = match.groups()
        return (
            f"{name}: the more a packet matters, the fewer datagrams bring it back: any {first} of a frame's "
            f"{n or last or first} for those that matter most, {last or first} for the rest."
        )
    return ""
