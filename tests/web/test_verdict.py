"""Whether it goes well in one sentence, and what the header says: true in each case, by the frames of ten seconds."""

from dataclasses import replace

import pytest

from gradfec_web.history import EdgePast, figures
from gradfec_web.verdict import Live, Tone, live, verdict
from gradfec_web.view import Edge, Frame

NOW = 1_000_000.0


def edge(protect="", connected=True, said=""):
    return Edge("kitchen", 1, "cloud:9000", connected, NOW - 60, said, settings={"protect": protect} if protect else {})


def frame(number=0, outcome="complete", received=20, lost=0, expected=None, at=NOW):
    counted = {"received": received, "lost": lost} if outcome != "timeout" else {}
    missing = {"partial": 3, "complete": 0}.get(outcome)
    packets = {} if missing is None else {"missing": missing, "recovered": lost}
    answer = [] if outcome == "timeout" else [("tabby", 0.6)]
    return Frame("kitchen", 1, number, at, outcome, answer, packets, counted, 1, 80.0, {}, expected=expected)


def frames(complete=0, partial=0, timeout=0, **changes):
    outcomes = ["complete"] * complete + ["partial"] * partial + ["timeout"] * timeout
    return [frame(number, outcome, **changes) for number, outcome in enumerate(outcomes)]


def past_of(given, of):
    past = EdgePast("kitchen", of, NOW - 5)
    for one in given:
        past.add(one)
    return past


def judged(given, of):
    found = verdict(of, past_of(given, of).recent(NOW))
    return found.tone.value, found.text.replace("\N{NO-BREAK SPACE}", " ")


LOSSY = {"received": 69, "lost": 31}
A_FEW = {"received": 95, "lost": 5}


@pytest.mark.parametrize(
    ("protect", "given", "tone", "text"),
    [
        (
            "auto",
            frames(9, expected=0.93),
            "good",
            "Nothing lost: 93 % of the answers should agree with the uncut network.",
        ),
        (
            "auto",
            frames(9, expected=1.0),
            "good",
            "Nothing lost: nearly all answers should agree with the uncut network.",
        ),
        # A budget that is too small leaves frames too coarse, even if nothing is lost.
        (
            "auto",
            frames(9, expected=0.7),
            "fair",
            "Nothing lost: 70 % of the answers should agree with the uncut network.",
        ),
        ("none", frames(9), "good", "Nothing lost: all answers as good as lossless."),
        ("", frames(9), "good", "Nothing lost: all that was sent is there."),
        ("FEC_50_50", frames(9, **LOSSY), "good", "31 % lost, all repaired: all answers as good as lossless."),
        ("nested:4,8", frames(9, **A_FEW), "good", "5.0 % lost, all repaired: all answers as good as lossless."),
        # auto makes frames coarser for a link that loses: what arrived whole need not be as good as lossless.
        (
            "auto",
            frames(9, **LOSSY, expected=0.84),
            "good",
            "31 % lost, all repaired: 84 % of the answers should agree with the uncut network.",
        ),
        ("", frames(9, **LOSSY), "good", "31 % lost, all repaired: all that was sent is there."),
        ("auto", frames(9, **LOSSY), "good", "31 % lost, all repaired: all that was sent is there."),
        (
            "FEC_20_80",
            frames(1, 9, **LOSSY),
            "bad",
            "31 % lost, more than FEC_20_80 repairs: answers may be wrong; choose auto.",
        ),
        (
            "FEC_20_80",
            frames(17, 3, **A_FEW),
            "fair",
            "5.0 % lost, at times more than FEC_20_80 repairs: 3 of the last 20 answers may be wrong; choose auto.",
        ),
        ("none", frames(2, 8, **LOSSY), "bad", "31 % lost, and nothing repairs it: answers may be wrong; choose auto."),
        (
            "none",
            frames(19, 1, **A_FEW),
            "fair",
            "5.0 % lost, and nothing repairs it: 1 of the last 20 answers may be wrong; choose auto.",
        ),
        (
            "auto",
            frames(16, 4, **LOSSY, expected=0.81),
            "fair",
            "31 % lost, 4 of the last 20 frames incomplete: 81 % of the answers should agree with the uncut network.",
        ),
        ("auto", frames(0, 9, **LOSSY), "bad", "31 % lost, not all of it repaired: answers may be wrong."),
        ("", frames(29, 1, **A_FEW), "fair", "5.0 % lost, 1 of the last 30 frames incomplete."),
        ("", frames(0, 9, **LOSSY), "fair", "31 % lost, 9 of the last 9 frames incomplete."),
        ("", frames(0, 1, **LOSSY), "fair", "31 % lost, the last frame incomplete."),
        ("auto", frames(0, 0, 9), "bad", "No answer came in time for the last 9 frames."),
        ("auto", frames(0, 0, 1), "bad", "No answer came in time for the last frame."),
        ("auto", frames(16, 1, 3, **LOSSY), "fair", "3 of the last 20 frames got no answer in time; 31 % lost."),
        ("auto", frames(5, 0, 5), "bad", "5 of the last 10 frames got no answer in time."),
        ("auto", [], "quiet", "No frame in the last 10 s."),
        ("auto", frames(9, at=NOW - 20), "quiet", "No frame in the last 10 s."),
    ],
)
def test_the_sentence_follows_from_the_frames(protect, given, tone, text):
    assert judged(given, edge(protect)) == (tone, text)


def test_without_counts_of_what_was_lost_nothing_is_said_to_be_as_good_as_lossless():
    unknown = [replace(one, datagrams={}) for one in frames(9)]
    assert judged(unknown, edge("FEC_20_80")) == ("good", "All that was sent is there.")
    few = [replace(one, datagrams={}) for one in frames(9, 1)]
    text = "At times more than FEC_20_80 repairs: 1 of the last 10 answers may be wrong; choose auto."
    assert judged(few, edge("FEC_20_80")) == ("fair", text)


@pytest.mark.parametrize("protect", ["auto", "none", "FEC_20_80", "nested:4,8,12", "", "my own"])
@pytest.mark.parametrize(("complete", "partial", "timeout"), [(8, 1, 0), (0, 9, 0), (8, 0, 1), (4, 4, 4)])
def test_no_bad_link_is_called_as_good_as_lossless(protect, complete, partial, timeout):
    for expected in (None, 0.8):
        tone, text = judged(frames(complete, partial, timeout, **LOSSY, expected=expected), edge(protect))
        assert "lossless" not in text and tone != "good"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("the cloud is silent", "No answers now: the cloud is silent."),
        ("idle", "No answers now: it was silent for too long."),
        ("", "No answers now."),
    ],
)
def test_an_edge_that_is_away_gets_no_answers_however_good_the_last_ones_were(said, text):
    assert judged(frames(9), edge("auto", connected=False, said=said)) == ("bad", text)


def test_a_camera_without_frames_is_told_however_good_the_last_ones_were():
    said = "camera /dev/video0: it stopped sending frames"
    assert judged(frames(9), edge("auto", said=said)) == ("bad", f"No frames now: {said}.")


def test_agreement_is_expected_as_the_mean_of_the_frames_for_which_it_is_known():
    past = past_of([*frames(2, expected=0.9), *frames(1, expected=0.6), *frames(3)], edge("auto"))
    assert figures(past.buckets, 10).expected == pytest.approx(0.8)
    assert figures([], 10).expected is None


def test_the_header_says_live_only_of_a_frame_of_the_last_seconds_with_the_colour_of_the_sentence():
    def said(given, of, role="edge"):
        found = live(past_of(given, of), NOW, role)
        return replace(found, text=found.text.replace("\N{NO-BREAK SPACE}", " "))

    assert said(frames(9), edge("auto")) == Live("live", Tone.GOOD)
    assert said(frames(0, 9, **LOSSY), edge("none")) == Live("live", Tone.BAD)
    assert said([], edge("auto")) == Live("no frame yet", Tone.QUIET)
    assert said(frames(9, at=NOW - 25), edge("auto")) == Live("no frame for 25 s", Tone.QUIET)
    away = edge("auto", connected=False)
    assert said(frames(9), away) == Live("cloud away for 1 min", Tone.BAD, lost=True)
    assert said(frames(9), away, "cloud") == Live("this edge away for 1 min", Tone.BAD)
    assert live(None, NOW, "cloud") == Live("no edge yet", Tone.QUIET)
