"""The page's words: numbers as people read them, and an explanation of each technical term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradfec_common.cells import Cell
from gradfec_common.keys import INSECURE_WARNING
from gradfec_web.policies import explained
from gradfec_web.view import Edge, Status, Workers

Lines = Sequence[tuple[str, float]]  # label and score
Found = Sequence[tuple[str, float, Sequence[float]]]  # and the place

NONE = "–"  # for an unknown number
UNITS = (("_ms", "ms"), ("_s", "s"), ("_bytes", "bytes"))  # by the end of a setting's name

INTRODUCTION = {
    "cloud": "Cameras at the edge run the first layers of a neural network and send the result here, as packets, over "
    "links that lose some of them. This page shows what arrived, and what the network answered all the same.",
    "edge": "This camera box, the edge, runs the first layers of a neural network and sends the result to a server, "
    "the cloud, as packets, over a link that loses some of them. This page shows what arrived, and what the cloud "
    "answered.",
}
WAITING = "Waiting for the daemon."
NO_EDGE = "No edge has connected yet. Start one on a machine with a camera:"
NOT_READY = "No edge can connect now: {}. This starts one, on a machine with a camera:"
NO_EDGE_KEY = (
    "It needs this cloud's key: run gradfec keygen --show here to print it, and gradfec keygen --paste there to store "
    "it."
)
NO_FRAME = {
    "cloud": "None of this edge's frames has an answer yet. It sends one when its camera has one.",
    "edge": "No frame has an answer yet. The edge sends one when the camera has one and the cloud is there.",
}
NO_IMPORTANCE = {
    "cloud": "Only the edge knows how much each packet of this frame matters, and the cloud has not received it. The "
    "edge's own live page shows it.",
    "edge": "How much each packet of this frame matters is not known.",
}
NO_FEATURES = "No features were sent: this frame is a picture, and the cloud needs all pieces of its file."
INSECURE = f"This runs with {INSECURE_WARNING}."

PACKETS = (
    "The first layers turned the frame into a tensor. Each square is a channel, one of many views of the frame. Each "
    "strip in it is a packet, which holds some rows of that view, or all."
)
PIECES = (
    "This frame was sent as a picture, because the link had room for it: no layer ran on the edge. Each strip is a "
    "piece of its file, in order, and the cloud needs all of them."
)
PARITY = "Parity: extra data from which lost packets can be computed back, if enough of it arrives."
MATTER = "Which features matter"  # also in the pictures of `gradfec show`
BY_GRADIENT = "by the network's own gradient"
BY_EDGE = "as the edge estimates it"
IMPORTANCE = (
    "How much the answer would suffer without each packet. Dark packets matter least: a plan that leaves packets out "
    "begins with them."
)
BANDS = "Show how much each band of rows matters: the brighter, the more the answer depends on it"
NO_PICTURE = {
    "cloud": "No picture to show: with --thumbnail, this edge sends a small one each second; some are lost.",
    "edge": "No picture yet.",
}
COUNTED = {"cloud": "received", "edge": "sent"}
SURE = "how sure the network is"
EXPECTED = "expected to agree with the uncut network"
RANKS = ("matters least", "matters most")  # the ends of the scale
LATENCY = {"cloud": "from a frame's first packet to its answer", "edge": "from the camera to the answer"}
WHY = "Why the newest frame is as it is: "

FATES: dict[Cell, tuple[str, str]] = {
    Cell.PROTECTED: ("protected", "arrived; parity was ready in case of loss"),
    Cell.SENT: ("sent bare", "arrived; it had no parity"),
    Cell.RECOVERED: ("recovered", "lost, and computed back from parity"),
    Cell.UNRECOVERED: ("unrecovered", "lost; its parity was not enough"),
    Cell.LOST: ("lost", "lost; it had no parity"),
    Cell.DROPPED: ("dropped by plan", "never sent: it matters least, or has nothing but zeros"),
    Cell.ABSENT: ("absent", "dropped by plan or lost: only the edge knows which"),
}
REASONS = {  # why a session ended, by the daemons' names
    "idle": "it was silent for too long",
    "bye": "it said goodbye",
    "leaving": "the cloud was shutting down",
    "key removed": "its key was removed",
}
ANSWERED = ("complete", "partial")
OUTCOMES = {
    "complete": "complete: every packet that was sent is there",
    "partial": "partial: some packets that were sent are missing",
    "timeout": "timeout: no answer came in time",
}


def number(value: float | None, digits: int = 0) -> str:
    """Write a number, or NONE."""
    return NONE if value is None else f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def with_unit(value: float | None, unit: str, digits: int = 0) -> str:
    """Write a number with its unit, or NONE."""
    return NONE if value is None else f"{number(value, digits)}\N{NO-BREAK SPACE}{unit}"


def kilobytes(size: float | None) -> str:
    """Write a number of bytes in kB of 1,000 bytes, or NONE."""
    return with_unit(None if size is None else size / 1000, "kB", 0 if size is None or size >= 10_000 else 1)


def rate(kbit_s: float) -> str:
    """Write a rate in kbit/s, or in Mbit/s from 10 on."""
    return with_unit(kbit_s, "kbit/s") if kbit_s < 10_000 else with_unit(kbit_s / 1000, "Mbit/s", 1)


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as a percentage, or NONE."""
    return with_unit(None if share is None else 100 * share, "%", digits)


def span(seconds: float) -> str:
    """Write a time span in whole units of the largest that fits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}\N{NO-BREAK SPACE}{unit}"
    return f"{max(int(seconds), 0)}\N{NO-BREAK SPACE}s"


def answer(lines: Lines, outcome: str) -> str:
    """Write the first line of an answer; there is none if nothing was found, or no answer came in time."""
    nothing = "nothing to name" if outcome in ANSWERED else "no answer"
    return label(lines[0][0]) if lines else nothing


def sure_answer(lines: Lines, outcome: str) -> str:
    """Write the first line of an answer, and how sure the network is of it."""
    first = answer(lines, outcome)
    return f"{first}, {percent(lines[0][1], 0)}" if lines else first


def boxes(found: Found) -> str:
    """Write what was found, for people who do not see where."""
    return "Found: " + "; ".join(f"{label(name)}, {percent(score, 0)}" for name, score, _ in found)


def label(name: str) -> str:
    """Write an ImageNet label as words."""
    return name.replace("_", " ")


def reason(said: str) -> str:
    """Say why an edge is away."""
    return REASONS.get(said, said)


def state(edge: Edge, now: float, role: str = "cloud") -> str:
    """Say whether an edge is connected, since when, and why not."""
    absent = "without a cloud" if role == "edge" else "gone"
    why = reason(edge.said)
    return f"{'connected' if edge.connected else absent} for {span(now - edge.since)}" + (f": {why}" if why else "")


def workers(crew: Workers) -> str:
    """Say how many of a cloud's workers are there, and what that means for the frames."""
    lost = f" {crew.lost} {'was' if crew.lost == 1 else 'were'} lost since the start." if crew.lost else ""
    if crew.fallback:
        return f"No worker is there. This process answers the frames itself until one is.{lost}"
    if not crew.ready:
        return f"No worker is there. No frame is answered until one is.{lost}"
    if crew.ready < crew.wanted:
        return f"{crew.ready} of {crew.wanted} workers are there. The others are being started.{lost}"
    return f"{'One worker is' if crew.ready == 1 else f'{crew.ready} workers are'} there.{lost}"


def sentences(lines: Sequence[str]) -> str:
    """Write lines that a log would have as sentences."""
    return " ".join(f"{line[:1].upper()}{line[1:]}." for line in lines)


def title(status: Status | None) -> str:
    """Return the page's title for the browser's tab."""
    return f"{status.title} – gradfec {status.role}" if status else "gradfec"


def cloud_for_edges(listening: str) -> str:
    """Return the edge's --cloud for a cloud that listens on `listening`; HOST if that names no machine."""
    host, _, port = listening.rpartition(":")
    return f"HOST:{port}" if host in {"", "0.0.0.0", "[::]", "*"} else listening


def settings(given: Mapping[str, object]) -> dict[str, str]:
    """Write settings as words: a unit goes from the name to the value."""
    written = {}
    for name, value in given.items():
        short, unit = next(((name.removesuffix(end), unit) for end, unit in UNITS if name.endswith(end)), (name, ""))
        known = unit and isinstance(value, (int, float))
        written[(short if known else name).replace("_", " ")] = _setting(value, unit if known else "")
        if name == "protect":
            written["protect"] = explained(str(value)) or str(value)
    return written


def _setting(value: object, unit: str) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting(one, "") for one in value) or "none"
    if unit == "bytes" and isinstance(value, (int, float)):
        return kilobytes(value)
    if isinstance(value, (int, float)):
        return with_unit(value, unit) if unit and value >= 10 else f"{value:g} {unit}".rstrip()
    return str(value)
