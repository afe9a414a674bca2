"""Real daemons with toy networks: batched or plain at either end, answers and counts are the same."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from gradfec_cli.daemons import free_port

from .stubbed import stubbed

PATHS = ("auto", "plain")
OPTIONS = ("--protect", "FEC_50_50", "--importance", "activation", "--results", "-", "--json")


def test_every_pair_of_udp_paths_gives_the_same_answers_and_accounts_for_every_datagram(photographs: Path) -> None:
    answers, clouds = {}, {}
    frames = len([*photographs.glob("*.png")])
    with ExitStack() as stack:
        for path in PATHS:
            port = free_port()
            options = ("--listen", f"127.0.0.1:{port}", "--udp", path, "--json")
            clouds[path] = port, stack.enter_context(stubbed("gradfec-cloud", *options))
        for at_edge in PATHS:
            for at_cloud, (port, _) in clouds.items():
                where = ("--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--udp", at_edge)
                with stubbed("gradfec-edge", *where, *OPTIONS) as edge:
                    *records, totals = map(json.loads, edge.lines())
                assert totals["datagrams_sent"]["symbol"] == frames * 256
                assert [record["datagrams"]["lost"] for record in records] == [0] * frames
                answers[at_edge, at_cloud] = {
                    record["source"]: (record["outcome"], record["top5"]) for record in records
                }
        first = answers["plain", "plain"]
        assert len(first) == frames
        assert all(found == first for found in answers.values())
        for _, cloud in clouds.values():
            received = cloud.totals()["datagrams_received"]
            assert received["collected"] + received["surplus"] == 2 * frames * 256
