"""What the page remembers of each edge, and that it stays bounded."""

import dataclasses

import pytest
from tests.web.world import Camera, status

from gradfec_web.history import BUCKET_S, KEPT_FRAMES, KEPT_S, MAX_GONE, RECENT_S, Bucket, History, figures
from gradfec_web.view import Edge, Frame, Picture

NOW = 1_000_000.0


def frame(name="kitchen", session=1, number=0, at=NOW, outcome="complete", **changes):
    counts = {"packets": {"recovered": 12, "missing": 3}, "datagrams": {"received": 80, "lost": 20}}
    values = counts | {"bursts": 5, "latency_ms": 100.0, "stages_ms": {"decode": 4.0}} | changes
    return Frame(name, session, number, at, outcome, [("Egyptian_cat", 0.6)], **values)


def edge(name="kitchen", session=1, connected=True, since=NOW, said=""):
    return Edge(name, session, "192.0.2.1:4000", connected, since, said)


def history_of(*records):
    history = History()
    for record in records:
        history.take(record)
    return history


def test_figures_are_means_over_frames_and_shares_of_datagrams():
    bucket = Bucket(NOW)
    for latency in (100.0, 200.0):
        bucket.add(frame(latency_ms=latency, bytes=5000))
    found = figures([bucket, Bucket(NOW + 2)], 4.0)
    assert (found.frames, found.fps, found.unanswered) == (2, 0.5, 0)
    assert (found.latency_ms, found.stages_ms) == (150.0, {"decode": 4.0})
    assert (found.frame_bytes, found.kbit_s) == (5000, 20)
    assert (found.loss, found.burst, found.recovered, found.missing) == (0.2, 4.0, 12.0, 3.0)


def test_losses_are_counted_in_datagrams_and_what_became_of_them_in_packets():
    bucket = Bucket(NOW)
    bucket.add(frame(packets={"recovered": 55, "missing": 11}, datagrams={"received": 18, "lost": 6}, bursts=2))
    bucket.add(frame(packets={"recovered": 45, "missing": 9}, datagrams={"received": 22, "lost": 2}, bursts=2))
    found = figures([bucket], 2.0)
    assert (found.loss, found.burst) == (8 / 48, 2.0)
    assert (found.recovered, found.missing) == (50.0, 10.0)


def test_a_timeout_counts_as_a_frame_but_has_no_latency_and_what_is_not_known_counts_as_none():
    bucket = Bucket(NOW)
    bucket.add(frame(outcome="timeout", latency_ms=0.0, packets={"total": 60}, datagrams={"sent": 20}, bursts=0))
    found = figures([bucket], 2.0)
    assert (found.frames, found.unanswered) == (1, 1)
    assert (found.latency_ms, found.loss, found.burst, found.recovered, found.stages_ms) == (None,) * 4 + ({},)


def test_the_frame_rate_of_the_last_seconds_is_right_from_the_start_on():
    history = history_of(*(frame(number=n, at=NOW + n / 10) for n in range(41)))
    assert history.edges["kitchen"].recent(NOW + 4).fps == pytest.approx(10, rel=0.05)


def test_only_the_last_seconds_count_for_the_numbers_of_the_moment():
    history = history_of(frame(at=NOW, latency_ms=900.0), frame(at=NOW + RECENT_S + 2 * BUCKET_S))
    recent = history.edges["kitchen"].recent(NOW + RECENT_S + 2 * BUCKET_S)
    assert (recent.frames, recent.latency_ms) == (1, 100.0)


def test_why_is_that_of_the_newest_frame_while_it_is_new_and_the_edge_is_connected():
    history = history_of(status("edge", NOW, [edge()]), frame(number=1, at=NOW + 1, why="now"))
    history.take(frame(number=0, at=NOW + 2, why="before"))  # it was given up late
    past = history.edges["kitchen"]
    assert past.why(NOW + 3) == "now"
    assert past.why(NOW + 2 + RECENT_S) == ""
    history.take(status("edge", NOW + 3, [edge(connected=False, since=NOW + 3)]))
    assert past.why(NOW + 3) == ""
    history.take(status("edge", NOW + 4, [edge(since=NOW + 4)]))  # connected again, and no frame yet
    assert past.why(NOW + 4) == ""
    history.take(frame(number=2, at=NOW + 5))  # of a policy that ignores the link
    assert past.why(NOW + 5) == ""


def test_seconds_without_frames_are_points_too_and_the_open_one_is_not():
    history = history_of(status("cloud", NOW, [edge()]), frame(at=NOW), status("cloud", NOW + 5 * BUCKET_S, [edge()]))
    points = history.edges["kitchen"].points()
    assert [at - NOW for at, _ in points] == [BUCKET_S * n for n in range(1, 6)]
    assert [figures.frames for _, figures in points] == [1, 0, 0, 0, 0]


def test_the_past_is_bounded_in_time_and_frames():
    history = history_of(*(frame(number=n, at=NOW + n) for n in range(1000)))
    past = history.edges["kitchen"]
    assert len(past.buckets) == KEPT_S / BUCKET_S
    assert [f.number for f in past.frames] == list(range(1000 - KEPT_FRAMES, 1000))


@pytest.mark.parametrize("leap", [-1e9, -3600, 3600, 1e9])
def test_a_leap_of_the_clock_costs_no_time_and_what_comes_after_it_shows(leap):
    history = history_of(frame(), status("cloud", NOW + leap, [edge()]), frame(number=1, at=NOW + leap))
    past = history.edges["kitchen"]
    assert len(past.buckets) <= KEPT_S / BUCKET_S
    assert past.recent(NOW + leap).frames == 1


def test_a_late_frame_is_counted_and_moves_nothing_back():
    history = history_of(frame(at=NOW + 60), frame(number=1, at=NOW))
    buckets = history.edges["kitchen"].buckets
    assert [bucket.frames for bucket in buckets] == [2]


def test_an_edge_that_is_gone_stays_with_its_reason_for_a_while():
    gone = edge(connected=False, since=NOW + 1, said="idle")
    history = history_of(status("cloud", NOW, [edge()]), status("cloud", NOW + 1, [gone]))
    history.take(status("cloud", NOW + KEPT_S, []))
    assert history.edges["kitchen"].edge == gone
    history.take(status("cloud", NOW + KEPT_S + 2, []))
    assert not history.edges


def test_an_edge_that_is_no_longer_listed_is_gone():
    history = history_of(status("cloud", NOW, [edge(), edge("yard", 2)]), frame())
    history.take(status("cloud", NOW + 1, [edge("yard", 2)]))
    assert not history.edges["kitchen"].edge.connected
    assert [past.key for past in history.connected()] == ["yard"]


def test_a_visitor_that_sent_no_frame_is_forgotten():
    history = history_of(status("cloud", NOW, [edge("gradfec doctor")]), status("cloud", NOW + 1, []))
    assert not history.edges


def test_an_edge_that_comes_back_continues_in_its_old_place():
    history = history_of(status("cloud", NOW, [edge()]), frame(), status("cloud", NOW + 4, [edge(session=2)]))
    history.take(frame(session=2, number=1, at=NOW + 5))
    assert list(history.edges) == ["kitchen"]
    assert [f.session for f in history.edges["kitchen"].frames] == [1, 2]


def test_an_edge_that_left_and_came_back_is_not_a_second_edge():
    """A cloud goes on listing the sessions that have ended."""
    first, second = edge(connected=False, since=NOW + 1), edge(session=2, since=NOW + 2)
    history = history_of(status("cloud", NOW, [edge()]))
    ended, third = dataclasses.replace(second, connected=False, since=NOW + 3), edge(session=3, since=NOW + 4)
    for edges in ([first], [first, second], [first, ended], [first, ended, third], [first, ended, third]):
        history.take(status("cloud", NOW + 5, edges))
        assert list(history.edges) == ["kitchen"]
        assert history.edges["kitchen"].edge == edges[-1]


def test_of_two_edges_of_one_name_the_one_that_goes_keeps_its_reason():
    history = history_of(status("cloud", NOW, [edge(), edge(session=2)]))
    gone = edge(session=2, connected=False, since=NOW + 1, said="bye")
    history.take(status("cloud", NOW + 1, [gone, edge()]))
    assert history.edges["kitchen #2"].edge == gone


def test_an_edges_own_page_does_not_forget_that_it_is_not_connected():
    away = edge(session=0, connected=False, said="no answer")
    history = history_of(status("edge", NOW, [away]), status("edge", NOW + 10 * KEPT_S, [away]))
    assert history.edges["kitchen"].edge == away


def test_an_edge_that_went_long_ago_is_not_shown_however_long_it_is_listed():
    assert not history_of(status("cloud", NOW, [edge(connected=False, since=NOW - KEPT_S - 1)])).edges


def test_a_photograph_is_shown_with_its_own_answer_for_as_long_as_its_frame_is_remembered():
    camera = Camera("kitchen", 1)
    camera.photographs = ["a photograph"]
    shown, picture = camera.frame(NOW)
    history = history_of(picture, shown)
    assert history.edges["kitchen"].seen() == picture
    for _ in range(KEPT_FRAMES):
        history.take(camera.frame(NOW + 1)[0])
    assert history.edges["kitchen"].seen() is None


def test_a_photograph_stays_for_ten_seconds_if_the_next_ones_are_lost():
    history, camera = History(), Camera("kitchen", 1)
    camera.photographs = ["a photograph"]
    shown, picture = camera.frame(NOW)
    camera.photographs = []
    for record in (shown, picture, *camera.frame(NOW + 1), *camera.frame(NOW + RECENT_S)):
        history.take(record)
    assert history.edges["kitchen"].seen() == picture != history.edges["kitchen"].picture
    history.take(camera.frame(NOW + RECENT_S + 0.1)[0])
    assert history.edges["kitchen"].seen() is None


def test_after_a_restart_an_edges_photograph_is_not_shown_for_an_older_frame():
    camera = Camera("kitchen", 1)
    camera.photographs = ["a photograph"]
    old = [camera.frame(NOW)[0] for _ in range(KEPT_FRAMES)]
    history = history_of(status("cloud", NOW, [edge()]), *old, status("cloud", NOW + 4, [edge(session=2)]))
    again = Camera("kitchen", 2)
    again.photographs = ["another"]
    shown, picture = again.frame(NOW + 5)
    history.take(picture)
    assert history.edges["kitchen"].seen() == picture  # before its frame, which is the first
    history.take(shown)
    assert history.edges["kitchen"].seen() == picture
    late = camera.frame(NOW)[1]  # of the session before, when nothing of it is remembered
    for _ in range(KEPT_FRAMES):
        history.take(again.frame(NOW + 6)[0])
    history.take(late)
    assert history.edges["kitchen"].seen() is None


def test_two_edges_of_one_name_are_two():
    history = history_of(status("cloud", NOW, [edge(), edge(session=2)]), frame(session=2))
    assert [len(past.frames) for past in history.edges.values()] == [0, 1]
    assert list(history.edges) == ["kitchen", "kitchen #2"]


def test_an_edge_may_be_called_what_another_is_called_here():
    names = ["kitchen", "kitchen #2", "kitchen"]
    history = history_of(status("cloud", NOW, [edge(name, session) for session, name in enumerate(names)]))
    assert [past.edge.session for past in history.edges.values()] == [0, 1, 2]


def test_frames_that_come_before_their_edge_is_listed_are_kept():
    history = history_of(frame(), status("cloud", NOW + 1, [edge()]))
    assert len(history.edges["kitchen"].frames) == 1


def test_edges_that_come_and_go_are_bounded():
    history = History()
    for session in range(3 * MAX_GONE):
        history.take(status("cloud", NOW + session / 10, [edge(f"edge {session}", session, since=NOW + session / 10)]))
        history.take(frame(f"edge {session}", session))
    history.take(status("cloud", NOW + 100, [edge("last", 10_000)]))
    assert len(history.edges) == MAX_GONE + 1
    assert f"edge {3 * MAX_GONE - 1}" in history.edges and "edge 0" not in history.edges


def test_the_newest_picture_is_kept():
    _, picture = Camera("kitchen", 1).frame(NOW)
    history = history_of(picture, dataclasses.replace(picture, number=7))
    kept = history.edges["kitchen"].picture
    assert isinstance(kept, Picture)
    assert kept.number == 7


def test_the_chosen_edge_is_shown_or_its_successor_once_it_has_left():
    history = history_of(status("cloud", NOW, [edge(), edge("yard", 2)]))
    assert history.find("yard").key == "yard"
    assert history.find(None).key == history.find("never heard of").key == "kitchen"
    history.take(status("cloud", NOW + 1, [edge(), edge("yard", 2, connected=False, since=NOW + 1)]))
    assert history.find("yard").key == "yard"  # gone, and nobody else has its name
    history.take(status("cloud", NOW + 2, [edge(), edge(session=3), edge("yard", 2, connected=False)]))
    history.take(status("cloud", NOW + 3, [edge(session=3), edge("yard", 2, connected=False)]))
    assert history.find("kitchen").key == "kitchen #2"


def test_without_an_edge_nothing_is_found_and_one_that_is_gone_is_better_than_none():
    assert History().find("kitchen") is None
    assert history_of(status("cloud", NOW, [edge(connected=False)])).find(None).key == "kitchen"
