"""The command `gradfec-edge`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import click

from gradfec_common.console import (
    Endpoint,
    EndpointType,
    Number,
    chosen_settings,
    insecure_option,
    key_file_option,
    plain_errors,
    runtime_option,
    say_totals,
    web_option,
)
from gradfec_common.runtimes import choose_runtime

EXAMPLES = """\b
Examples:
  gradfec-edge --camera /dev/video0 --cloud cloud.example:9000
  gradfec-edge --camera rtsp://10.0.0.7/stream --cloud cloud.example:9000 --fps 5
  gradfec-edge --camera photos/ --cloud 127.0.0.1:9000 --results answers.jsonl

Exit codes: 0 done, or stopped when asked to; 1 something outside failed; 2 a wrong option.
"""

IMPORTANCE = (
    "What ranks the packets: proxy or proxy-paper (learned), activation, deviation, static, random, or the file (.npz) "
    "of a proxy that gradfec train-proxy has made.  [default: proxy; for other splits or rows, activation]"
)


@click.command(epilog=EXAMPLES, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--camera",
    required=True,
    metavar="SRC",
    help="Device (/dev/video0), camera number, RTSP URL, video file, image, or folder of images.",
)
@click.option("--cloud", required=True, type=EndpointType(), help="Where gradfec-cloud listens.")
@click.option(
    "--protect",
    default="FEC_20_80",
    metavar="SCHEME",
    help="none, or FEC_A_B: drop the least important A % of the packets and protect the other B %; "
    "choose A a few points above the link's loss.",
)
@click.option(
    "--fec",
    default="zfec",
    metavar="CODE",
    help="Erasure code of FEC_A_B: zfec, in small blocks; zfec:256, in blocks of so many packets; leopard, over the "
    "whole frame, and much faster.",
)
@click.option("--importance", metavar="NAME", help=IMPORTANCE)
@click.option(
    "--compensate/--no-compensate",
    default=True,
    help="Scale kept packets so that they stand in for dropped ones, where the estimator knows how (proxy).",
)
@click.option("--rows", default=7, type=click.IntRange(1, 255), help="Rows of a channel in one packet.")
@click.option("--split", default="conv2_block1_add", metavar="LAYER", help="Last layer that runs on the edge.")
@click.option("--fps", type=Number(min=0, min_open=True), help="At most so many frames a second.")
@click.option("--loop", is_flag=True, help="Repeat a file or folder for ever.")
@click.option("--in-flight", default=4, type=click.IntRange(1, 64), help="Frames that may await an answer.")
@click.option("--timeout-ms", default=2000, type=click.IntRange(1, 600_000), help="Give an answer up after this.")
@click.option(
    "--rate",
    type=Number(min=0, min_open=True),
    metavar="MBIT/S",
    help="Send at this rate.  [default: a frame's packets over half of the frame interval, at most 100 ms]",
)
@click.option("--results", metavar="FILE|-", help="Append one JSON object a frame; - for standard output.")
@click.option("--metrics", type=EndpointType("127.0.0.1"), help="Serve /metrics, for Prometheus, /healthz and /readyz.")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights, if not the cached ones.")
@runtime_option
@key_file_option
@insecure_option
@web_option
@click.option(
    "--thumbnail",
    is_flag=True,
    help="Send the cloud a small picture of what the camera sees, once a second, if its live page is on (--web).",
)
@click.option("--name", default=platform.node() or "edge", help="How this edge is called in the cloud's records.")
@click.option(
    "--udp",
    default="auto",
    type=click.Choice(["auto", "plain"]),
    help="Send many datagrams a system call where kernel and device can (UDP_SEGMENT), or always one: where netem "
    "shapes this machine's own interface, it would lose them together.",
)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of the estimator `random`.")
@click.option("--json", "as_json", is_flag=True, help="At the end, print the totals as one JSON object.")
@plain_errors
def main(
    camera: str,
    cloud: Endpoint,
    protect: str,
    fec: str,
    importance: str | None,
    compensate: bool,
    rows: int,
    split: str,
    fps: float | None,
    loop: bool,
    in_flight: int,
    timeout_ms: int,
    rate: float | None,
    results: str | None,
    metrics: Endpoint | None,
    weights: Path | None,
    runtime: str,
    key_file: Path | None,
    insecure: bool,
    web: Endpoint | None,
    thumbnail: bool,
    name: str,
    udp: str,
    seed: int,
    as_json: bool,
) -> None:
    """Run the first layers of ResNet-50 on a camera's frames and send the features, protected, to a cloud."""
    import contextlib

    import numpy as np

    from gradfec_common.ciphers import preferred_cipher
    from gradfec_common.codes import fec_named
    from gradfec_common.key_files import edge_key
    from gradfec_common.network import split_point
    from gradfec_common.plan import parse_scheme
    from gradfec_common.results import ResultsFile
    from gradfec_common.session.edge import new_hello
    from gradfec_common.session.handshake import HandshakeKey
    from gradfec_common.transmit import check_code, packet_grid
    from gradfec_common.weights import ensure_weights
    from gradfec_common.weights.progress import show_progress
    from gradfec_edge.camera import open_source
    from gradfec_edge.daemon import EdgeOptions, run_edge
    from gradfec_edge.frontend import load_front_end
    from gradfec_edge.importance import EstimatorFile, default_estimator, make_estimator
    from gradfec_edge.journal import Journal
    from gradfec_edge.link import resolve
    from gradfec_edge.pipeline import Pipeline
    from gradfec_edge.progress import Progress
    from gradfec_edge.watch import watch_options

    scheme, cut = parse_scheme(protect, fec_named(fec)), split_point(split)
    grid, runtime = packet_grid(cut, rows), choose_runtime(runtime)
    check_code(scheme.code, grid, cut)
    importance = importance or default_estimator(cut, grid)
    estimator = make_estimator(importance, cut, grid, np.random.default_rng(seed))
    key, hello = HandshakeKey(edge_key(key_file, insecure=insecure)), new_hello(cut.id, rows, name, preferred_cipher())
    options = EdgeOptions(
        *(cloud, hello, key, in_flight, timeout_ms / 1000, rate, udp == "auto"),
        watch_options(web, camera, chosen_settings(importance=importance, runtime=runtime), insecure, thumbnail),
        metrics,
        runtime,
    )
    with contextlib.ExitStack() as stack:
        progress = Progress()
        source = open_source(camera, loop=loop, fps=fps, warn=progress.say)
        stack.callback(source.close)
        file = stack.enter_context(ResultsFile(results)) if results else None
        with show_progress() as fetching:
            store = ensure_weights(weights, fetching)
        resolve(cloud)  # whatever can fail at once fails before TensorFlow takes its seconds
        stack.enter_context(progress)
        proxy, free = (estimator, None) if isinstance(estimator, EstimatorFile) else (None, estimator)
        front_end = load_front_end(runtime, cut, store, proxy)
        front_end.warm_up()
        progress.say(
            f"{source.name} -> {cut.name}, {grid.count} packets of {grid.size} B, "
            f"{scheme.name} by {importance}, {runtime} -> {cloud}"
        )
        pipeline = Pipeline(cut, grid, front_end, free, scheme, compensate)
        journal = Journal(file, progress.record, {"insecure": True} if insecure else {})
        totals = run_edge(options, source, pipeline, journal, progress.say)
    if as_json:
        click.echo(json.dumps(totals))
    else:
        say_totals("gradfec-edge", totals)
