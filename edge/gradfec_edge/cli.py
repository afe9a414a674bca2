"""The command `gradfec-edge`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_common.errors import GradfecError
from gradfec_edge.modes import MODES
from gradfec_host import logs
from gradfec_host.completion import added_models, codecs, completing, models, policies
from gradfec_host.config import CameraOption, camera_option, config_option, config_used, differing, each_camera
from gradfec_host.console import (
    CONTEXT,
    Endpoint,
    EndpointType,
    Number,
    insecure_option,
    key_file_option,
    log_format_option,
    log_level_option,
    plain_errors,
    prints_on_terminal,
    runtime_option,
    version,
    version_option,
    web_option,
)
from gradfec_host.quality import DEFAULT_QUALITY, MEAN_FROM, QUALITIES

if TYPE_CHECKING:
    from gradfec_common.networks import Layer, Network

EXAMPLES = """\b
Examples:
  gradfec-edge --camera /dev/video0 --cloud cloud.example:9000
  gradfec-edge --camera rtsp://10.0.0.7/stream --cloud cloud.example:9000 --fps 5
  gradfec-edge --camera photos/ --cloud 127.0.0.1:9000 --results answers.jsonl
  gradfec-edge --config edge.toml

Exit codes: 0 finished, or stopped as asked; 1 something outside failed; 2 a wrong option.
"""

IMPORTANCE = (
    "Estimator that ranks the packets: proxy (learned); proxy-paper (the paper's own, for comparison); "
    "activation, energy, deviation, static, random, order, or a file (.npz) made by "
    "gradfec train-proxy.  [default: proxy, where one was learned for the split and rows, or with the bottleneck; "
    "otherwise activation, and for a bottleneck energy; for pictures, order]"
)


@click.command(epilog=EXAMPLES, context_settings=CONTEXT)
@camera_option(
    "--camera",
    required=True,
    metavar="SRC",
    help="Device (/dev/video0), camera number, RTSP URL, video file, image, or folder of images; or zmq://HOST:PORT, "
    "where Frigate asks what is in its pictures.",
)
@camera_option("--cloud", required=True, type=EndpointType(), help="Address of gradfec-cloud.")
@camera_option(
    "--model",
    metavar="NAME",
    shell_complete=completing(models),
    help="Network to run: resnet50, or one that was added by gradfec model add.  [default: resnet50]",
)
@camera_option(
    "--mode",
    type=click.Choice([*MODES]),
    help="A named set of options; options that you give yourself override it. paper: 8 bits, one packet a datagram, "
    "packets ranked by the learned proxy.",
)
@camera_option(
    "--codec",
    metavar="NAME",
    shell_complete=completing(codecs),
    help="How features become bytes: FILE.npz, a bottleneck that gradfec train-codec has made, of a few kB a frame, or "
    "bottleneck, the one that is shipped for the split, or in the model's folder, if any; uniform8 to uniform4, with "
    "evenly spaced levels of 8 to 4 bits; local8 to local4, likewise over the range of each packet; sqrt6 to sqrt2, "
    "with levels that are denser near zero, for features in front of a ReLU; auto. Or the picture itself, and the edge "
    "runs no layer: avif:75, webp:75, jpeg:75 or progressive:75 (JPEG, of which the cloud can use the first scans "
    "alone), with a quality of 1 to 100.  [default: auto: bottleneck if there is one for the split that keeps four "
    "answers in five, otherwise sqrt4 if it fits, otherwise local6; and avif where the link makes that worth more]",
)
@camera_option(
    "--quality",
    type=click.IntRange(QUALITIES[0], QUALITIES[-1]),
    help=f"How finely a bottleneck's latents are rounded.  [default: {DEFAULT_QUALITY}]",
)
@camera_option(
    "--bytes-per-frame",
    type=click.IntRange(min=500),
    metavar="N",
    help="Bytes a frame, headers included, parity not. Each frame has about so many: a bottleneck's latents are "
    f"rounded as finely as they allow. But from {MEAN_FROM} on, for a classifier, without --codec, --split and "
    "--second-look, it is the mean, with parity: most frames take fewer, and what they save pays for second looks.",
)
@camera_option(
    "--second-look",
    type=Number(min=0, max=1),
    metavar="SCORE",
    help="Of a frame whose answer has a lower score, send the picture, too, if the link has time for it: most wrong "
    "answers have low scores. For classifiers with a bottleneck, whose features then take 2 to 3 kB; 0.65 sends about "
    "a quarter of the frames twice, 0.85 two in five.  [default: never, 0; or as often as --bytes-per-frame allows]",
)
@camera_option(
    "--packets-per-datagram",
    type=click.IntRange(1),
    metavar="N",
    help="Put at most this many packets into a datagram.  [default: as many as fit]",
)
@camera_option(
    "--protect",
    metavar="POLICY",
    shell_complete=completing(policies),
    help="auto: the link decides how fine a frame is, how much parity it gets, and how many there are, so that most "
    "answers are right; none; FEC_A_B: drop the least important A % of the packets and protect the other B %, with A a "
    "third above the link's loss, or a tenth above it with leopard; nested:k1,k2,...: any k1 datagrams are enough for "
    "the most important packets, any k2 also for the next ones, and so on.  [default: auto; for "
    "features of the built-in network without a bottleneck, FEC_20_80]",
)
@camera_option(
    "--fec",
    metavar="CODE",
    help="Erasure code for the parity: zfec, in small groups; zfec:256, in groups of 256 datagrams; leopard, over the "
    "whole frame and much faster.  [default: zfec]",
)
@camera_option("--importance", metavar="NAME", help=IMPORTANCE)
@camera_option(
    "--compensate/--no-compensate",
    default=None,
    help="Scale the kept packets to make up for the dropped ones. Only the estimator proxy can do this, and only for "
    "features without a bottleneck.  [default: on where it can be done]",
)
@camera_option(
    "--rows",
    type=click.IntRange(1, 255),
    help="Rows of a channel in each packet.  [default: 7; for a bottleneck, those that it was trained with]",
)
@camera_option(
    "--split",
    metavar="LAYER",
    help="Last layer that runs on the edge; auto: what suits the link, by what gradfec plan --save has measured.  "
    "[default: conv2_block1_add; for pictures, input_layer; of an added model, what gradfec model show names]",
)
@camera_option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --split auto, use the measurements in this file, made by gradfec plan --out.  [default: those that were "
    "saved with the model]",
)
@camera_option(
    "--fallback",
    metavar="NAME",
    shell_complete=completing(added_models),
    help="Model that answers on the edge while the cloud is away: one that was added by gradfec model add, with "
    "answers of the same kind. With it, files do not wait for the cloud, either.",
)
@camera_option("--fps", type=Number(min=0, min_open=True), help="Limit the frame rate to this many frames a second.")
@camera_option("--loop", is_flag=True, help="Repeat a file or folder forever.")
@camera_option(
    "--wait",
    default=30.0,
    type=Number(min=0, min_open=True),
    metavar="S",
    help="How many seconds a file or folder waits for a cloud that does not answer, or whose name does not resolve. "
    "Cameras, and files with --loop, wait forever.",
)
@camera_option("--in-flight", default=4, type=click.IntRange(1, 64), help="How many frames may wait for an answer.")
@camera_option(
    "--timeout-ms", default=2000, type=click.IntRange(1, 600_000), help="Give up on an answer after this time."
)
@camera_option(
    "--rate",
    type=Number(min=0, min_open=True),
    metavar="MBIT/S",
    help="Send at this rate.  [default: each frame over half of the frame interval, at most 100 ms]",
)
@camera_option(
    "--max-rate",
    type=Number(min=0, min_open=True),
    metavar="MBIT/S",
    help="With --protect auto, never send more than this, headers and parity included.  [default: what the link "
    "carries]",
)
@camera_option(
    "--queue-ms",
    default=50,
    type=click.IntRange(10, 1000),
    metavar="MS",
    help="With --protect auto, let frames wait on the link for about this long at most: more uses the link better, and "
    "answers come later.",
)
@camera_option(
    "--results", metavar="FILE|-", help="Append one JSON object a frame to this file; - for standard output."
)
@click.option("--metrics", type=EndpointType("127.0.0.1"), help="Serve /metrics for Prometheus, /healthz and /readyz.")
@web_option
@camera_option(
    "--thumbnail",
    is_flag=True,
    help="Once a second, send the cloud a small picture of what the camera sees, if its live page is on (--web).",
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Use these weights instead of the cached ones."
)
@runtime_option
@key_file_option(cls=CameraOption)
@insecure_option(cls=CameraOption)
@camera_option(
    "--name",
    default=platform.node() or "edge",
    show_default="this machine's name",
    help="Name of this edge, or camera, in the records.",
)
@camera_option(
    "--udp",
    default="auto",
    type=click.Choice(["auto", "plain"]),
    help="auto: send many datagrams a system call if kernel and device can (UDP_SEGMENT). plain: always one; use it if "
    "netem shapes this machine's own interface, because netem would lose them together.",
)
@camera_option("--seed", default=0, type=click.IntRange(min=0), help="Seed for the estimator `random`.")
@click.option("--json", "as_json", is_flag=True, help="Print the totals as one JSON object at the end.")
@log_format_option
@log_level_option
@version_option
@config_option("edge")
@plain_errors
def main(
    weights: Path | None,
    runtime: str,
    metrics: Endpoint | None,
    web: Endpoint | None,
    as_json: bool,
    log_format: str,
    log_level: str,
    **camera_options: Any,
) -> None:
    """Run the first layers of the network on a camera's frames, and send the features with protection to a cloud."""
    import contextlib

    from gradfec_edge.cameras import fallbacks, front_ends, open_all, page_of, sessions_of
    from gradfec_edge.process import ProcessOptions, run_edge
    from gradfec_host.codec_file import trained
    from gradfec_host.models.find import runtime_for
    from gradfec_host.weights.progress import show_progress

    log = logs.configure("gradfec-edge", log_format, log_level)
    options = each_camera(camera_options)
    sessions = sessions_of(options, log)
    cuts = {one.coding.cut for session in sessions for one in session.setup.designs if one.runs_network}
    runtime = runtime_for(runtime, {cut.network for cut in cuts})
    process = {"runtime": runtime, "config": config_used().path, "version": version()}
    for_all = {"weights": weights, "metrics": metrics, "web": web}
    with contextlib.ExitStack() as stack:
        open_all(sessions, stack)
        layers: dict[Network, set[Layer]] = {}
        for cut in cuts:
            layers.setdefault(cut.network, set()).update(cut.front_layers)
        with show_progress() as fetching:
            stores = {network: trained(network, weights, fetching, layers[network]) for network in layers}
        models = front_ends(sessions, runtime, stores)
        cameras = [
            session.ready(models, fallback, process, first_line(for_all | camera))
            for session, fallback, camera in zip(sessions, fallbacks(sessions), options, strict=True)
        ]
        live = not any(prints_on_terminal(session.options.results) for session in sessions)
        page = page_of(web, cameras) if web else None
        ended = run_edge(cameras, ProcessOptions(runtime, metrics, page, live))
    names = [session.options.name for session in sessions]
    totals = {name: one.totals for name, one in zip(names, ended, strict=True)}
    if as_json:
        click.echo(json.dumps(totals if len(totals) > 1 else totals[names[0]]))
    else:
        for camera, session, one in zip(cameras, sessions, ended, strict=True):
            if any(one.totals["frames"].values()):
                camera.log.totals(one.totals)
            file = not (camera.source.live or session.options.loop or session.options.results)
            if file and sys.stdout.isatty():
                click.echo("".join(f"{logs.printable(line)}\n" for line in camera.status.answers), nl=False)
    raise_errors({name: one.error for name, one in zip(names, ended, strict=True)})


def first_line(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return what the first line says of a camera's settings, except where its frames come from and go to."""
    changed = {key: value for key, value in differing(dict(settings)).items() if key not in ("camera", "cloud")}
    return changed | {"config": config_used().path}


def raise_errors(errors: Mapping[str, BaseException | None]) -> None:
    """Raise what ended a camera: a bug of ours first, then the only error, or a GradfecError that counts them all."""
    failed = {name: error for name, error in errors.items() if error is not None}
    for error in failed.values():
        if len(errors) == 1 or not isinstance(error, GradfecError):
            raise error
    if failed:
        raise GradfecError(f"{len(failed)} of {len(errors)} cameras failed: {', '.join(failed)}")
