"""Whether the link works well, in one sentence that follows from the frames of the last seconds.

An answer is complete if every packet that was sent is there: then losses have not changed it. One that is partial may
be wrong. `auto` expects some of those, and says how many answers should still agree with the uncut network. The cloud
does not know the policy, so its page counts the frames, and says nothing about their answers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gradfec_web import words
from gradfec_web.history import RECENT_S, EdgePast, Figures
from gradfec_web.policies import AUTO, NONE, UNKNOWN
from gradfec_web.view import Edge

NEARLY_ALL = 0.99  # no more is known: what is expected was measured on some photographs
TOO_FEW = 0.8  # answers that should agree: the budget, or the link, leaves too little of the frames
MOSTLY = 0.5  # of the frames: from here on it goes badly


class Tone(enum.Enum):
    """How it goes; also the name of a colour in the style sheet."""

    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"
    QUIET = "quiet"  # there is nothing to judge


@dataclass(frozen=True)
class Verdict:
    """How it goes, and one sentence about it."""

    tone: Tone
    text: str


def verdict(edge: Edge, recent: Figures) -> Verdict:
    """Judge an edge by its frames of the last seconds."""
    why = words.reason(edge.said)
    if not edge.connected:
        return Verdict(Tone.BAD, f"No answers now: {why}." if why else "No answers now.")
    if why:
        return Verdict(Tone.BAD, f"No frames now: {why}.")
    if not recent.frames:
        return Verdict(Tone.QUIET, f"No frame in the last {words.span(RECENT_S)}.")
    if recent.unanswered:
        return _unanswered(recent)
    return _partial(edge.protect, recent) if recent.partial else _complete(edge.protect, recent)


@dataclass(frozen=True)
class Live:
    """What the page's header says of the shown edge; `lost`: in red, because the daemon has lost its other end."""

    text: str
    tone: Tone
    lost: bool = False


def live(past: EdgePast | None, now: float, role: str) -> Live:
    """Say whether what the page shows is from now. The browser itself says if the daemon is not heard."""
    if past is None:
        return Live("no edge yet", Tone.QUIET)
    edge, age = past.edge, now - past.frames[-1].at if past.frames else None
    if not edge.connected:
        return Live(
            f"{'cloud' if role == 'edge' else 'this edge'} away for {words.span(now - edge.since)}",
            Tone.BAD,
            role == "edge",
        )
    if age is None:
        return Live("no frame yet", Tone.QUIET)
    if age > RECENT_S:
        return Live(f"no frame for {words.span(age)}", Tone.QUIET)
    return Live("live", verdict(edge, past.recent(now)).tone)


def _unanswered(recent: Figures) -> Verdict:
    lost = f"; {_lost(recent.loss)}" if recent.loss else ""
    if recent.unanswered == recent.frames:
        return Verdict(Tone.BAD, f"No answer came in time for {_last(recent, 'frame')}{lost}.")
    text = f"{recent.unanswered} of {_last(recent, 'frame')} got no answer in time{lost}."
    return Verdict(_tone(recent.unanswered, recent), text)


def _partial(protect: str, recent: Figures) -> Verdict:
    lost = f"{_lost(recent.loss)}, " if recent.loss else ""
    expected = f": {_expected(recent.expected)}" if protect == AUTO and recent.expected is not None else ""
    if expected or protect == UNKNOWN:
        some = "" if recent.frames == 1 else f"{recent.partial} of "
        text = f"{lost}{some}{_last(recent, 'frame')} incomplete{expected}."
        return Verdict(Tone.FAIR, text[:1].upper() + text[1:])
    mostly = recent.partial >= MOSTLY * recent.frames
    answers = "answers" if mostly else f"{recent.partial} of {_last(recent, 'answer')}"
    if protect == AUTO:
        text = f"{lost}not all of it repaired: {answers} may be wrong."
    elif protect == NONE:
        text = f"{lost}and nothing repairs it: {answers} may be wrong; choose auto."
    else:
        at_times = "" if mostly else "at times "
        text = f"{lost}{at_times}more than {protect} repairs: {answers} may be wrong; choose auto."
    return Verdict(_tone(recent.partial, recent), text[:1].upper() + text[1:])


def _complete(protect: str, recent: Figures) -> Verdict:
    repaired = f"{_lost(recent.loss)}, all repaired: " if recent.loss else ""
    if recent.loss == 0:
        repaired = "Nothing lost: "
    if protect == AUTO and recent.expected is not None:  # which makes frames coarser for a slow or a bad link
        tone = Tone.FAIR if recent.expected < TOO_FEW else Tone.GOOD
        return Verdict(tone, f"{repaired}{_expected(recent.expected)}.")
    if recent.loss is None or protect in {AUTO, UNKNOWN}:
        text = f"{repaired}all that was sent is there."
        return Verdict(Tone.GOOD, text[:1].upper() + text[1:])
    return Verdict(Tone.GOOD, f"{repaired}all answers as good as lossless.")


def _tone(concerned: int, recent: Figures) -> Tone:
    return Tone.BAD if concerned >= MOSTLY * recent.frames else Tone.FAIR


def _last(recent: Figures, name: str) -> str:
    return f"the last {name}" if recent.frames == 1 else f"the last {recent.frames} {name}s"


def _lost(loss: float) -> str:
    return f"{words.percent(loss, 0 if loss >= 0.1 else 1)} lost"


def _expected(agreement: float) -> str:
    share = "nearly all" if agreement >= NEARLY_ALL else f"{words.percent(agreement, 0)} of the"
    return f"{share} answers should agree with the uncut network"
