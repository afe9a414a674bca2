"""The command `gradfec-cloud`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradfec_cloud.options import with_options
from gradfec_cloud.outward import SINKS, open_sinks
from gradfec_cloud.workers import WORKERS
from gradfec_host import logs
from gradfec_host.completion import completing, models
from gradfec_host.config import Setting, config_option, config_used, differing
from gradfec_host.console import (
    CONTEXT,
    Endpoint,
    EndpointType,
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
from gradfec_host.runtimes import LITERT

if TYPE_CHECKING:
    from gradfec_cloud.catalogue import Catalogue
    from gradfec_cloud.daemon import InferOptions
    from gradfec_cloud.inference import Inference, Inferred
    from gradfec_cloud.port import Port
    from gradfec_cloud.workers.pool import OpenWorkers
    from gradfec_common.conceal import Concealment
    from gradfec_common.networks import Cut, Network
    from gradfec_host.models import Model
    from gradfec_host.weights import Weights

EXAMPLES = """\b
Examples:
  gradfec-cloud --listen 9000
  gradfec-cloud --listen 9000 --metrics 9100 --results answers.jsonl
  gradfec-cloud --listen 9000 --keys keys
  gradfec-cloud --config cloud.toml

Exit codes: 0 stopped as asked; 1 something outside failed; 2 a wrong option.
"""

LEFT_OUT = ("listen", "log_format", "log_level", "as_json")  # of the first line


@click.command(epilog=EXAMPLES, context_settings=CONTEXT)
@click.option(
    "--listen",
    cls=Setting,
    required=True,
    type=EndpointType(""),
    help="UDP port to listen on, on all interfaces by default.",
)
@click.option(
    "--model",
    metavar="NAMES",
    shell_complete=completing(models),
    help="Networks to run the rest of: resnet50, or those that were added by gradfec model add. Several, separated by "
    "commas.  [default: resnet50]",
)
@click.option(
    "--split",
    metavar="LAYERS",
    help="Last layer that runs on the edges; the cloud runs the rest. Several, separated by commas: each edge chooses "
    "one of them.  [default: conv2_block1_add, and input_layer for pictures; of an added model, where fewer elements "
    "travel than at any layer before]",
)
@click.option(
    "--codec",
    metavar="FILES",
    help="Also serve edges with this bottleneck, a file made by gradfec train-codec. Several, separated by commas. "
    "Those that are shipped for the split, or in the model's folder, are always served.",
)
@click.option(
    "--fill",
    default="auto",
    metavar="NAMES",
    help="What stands in for a missing packet: zero; mean, its channel's mean over training images; of its channel, "
    "neighbour or inpaint; of the other channels, gaussian, altec or caltec; of both, learned, a small network; "
    "of the whole tensor, silrtc or halrtc, which take seconds. auto is gaussian where the channels' statistics are "
    "known, otherwise mean or zero. For several cuts LAYER=NAME,LAYER=NAME. A bottleneck's decoder is always told what "
    "is missing (mask).",
)
@click.option(
    "--fill-ms",
    default=200,
    type=click.IntRange(1, 60_000),
    help="Give a --fill up after this long a frame, and fill with mean or zero.",
)
@click.option(
    "--learned",
    metavar="FILES",
    help="What --fill knows of the channels, made by gradfec train-concealment or train-fill. Several files, separated "
    "by commas. That of the default split is shipped.",
)
@click.option(
    "--backend",
    metavar="NAMES",
    help="Back-ends that are tuned to missing packets: lossy, which is shipped for the default split, or files made by "
    "gradfec train-backend, separated by commas.  [default: the network as it is]",
)
@click.option(
    "--deadline-ms",
    default=500,
    type=click.IntRange(1, 60_000),
    help="Wait at most this long after a frame's first datagram, then answer with what has arrived.",
)
@click.option("--results", metavar="FILE|-", help="Append one JSON object a frame to this file; - for standard output.")
@click.option("--metrics", type=EndpointType("127.0.0.1"), help="Serve /metrics for Prometheus, /healthz and /readyz.")
@web_option
@click.option(
    "--http-token",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of the token that --web and --infer ask for; made if it does not exist. [default: a new token "
    "at each start, none on loopback]",
    show_default=False,
)
@click.option(
    "--infer",
    type=EndpointType("127.0.0.1"),
    help="Serve whole pictures, too: inference requests of the Open Inference Protocol, and of DeepStack, over HTTP.",
)
@click.option(
    "--workers",
    default="local",
    type=click.Choice([*WORKERS]),
    help="What runs the network. local: this process. ray: workers of a Ray cluster, on any of its machines.",
)
@with_options(option for kind in WORKERS.values() for option in kind.options)
@with_options(option for kind in SINKS.values() for option in kind.options)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="Use these weights instead of the cached ones."
)
@runtime_option
@key_file_option()
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of keys, one file for each edge, named after it. SIGHUP reads it again and ends the sessions of "
    "removed keys.",
)
@insecure_option()
@click.option(
    "--udp",
    default="auto",
    type=click.Choice(["auto", "plain"]),
    help="auto: receive many datagrams a system call if the kernel can (UDP_GRO). plain: always one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the totals as one JSON object at the end.")
@log_format_option
@log_level_option
@version_option
@config_option("cloud")
@plain_errors
def main(
    listen: Endpoint,
    model: str | None,
    split: str | None,
    codec: str | None,
    fill: str,
    fill_ms: int,
    learned: str | None,
    backend: str | None,
    deadline_ms: int,
    results: str | None,
    metrics: Endpoint | None,
    web: Endpoint | None,
    http_token: Path | None,
    infer: Endpoint | None,
    weights: Path | None,
    runtime: str,
    key_file: Path | None,
    keys: Path | None,
    insecure: bool,
    udp: str,
    as_json: bool,
    log_format: str,
    log_level: str,
    workers: str,
    **others: object,
) -> None:
    """Receive features from edges over a lossy link, run the rest of the network, and send the answers back."""
    import contextlib

    from gradfec_cloud.access import key_source
    from gradfec_cloud.catalogue import chosen_catalogue
    from gradfec_cloud.daemon import CloudOptions, run_cloud
    from gradfec_cloud.filling import in_time
    from gradfec_cloud.port import RECEIVE_BUFFER_BYTES, Port, small_buffer_hint
    from gradfec_host.codec_file import trained
    from gradfec_host.models.find import runtime_for
    from gradfec_host.results import ResultsFile
    from gradfec_host.weights.progress import show_progress
    from gradfec_web.shown import PageOptions

    log = logs.configure("gradfec-cloud", log_format, log_level)
    catalogue = chosen_catalogue(split, fill, codec, model, learned, backend)
    catalogue = catalogue.with_pictures() if infer else catalogue
    runtime = runtime_for(runtime, catalogue.networks)
    read_keys = key_source(key_file, keys, insecure=insecure)
    known = read_keys()  # fail early
    sinks = open_sinks(others, catalogue.labels)
    open_workers = WORKERS[workers].open(others, log)
    asked = infer_options(infer, http_token, catalogue) if infer else None
    with contextlib.ExitStack() as stack:
        port = Port(listen, batched=udp == "auto")
        stack.callback(port.close)
        file = stack.enter_context(ResultsFile(results)) if results else None
        if port.receive_buffer_bytes < RECEIVE_BUFFER_BYTES:
            log.warning(small_buffer_hint(port.receive_buffer_bytes), event="small_buffer")
        given = click.get_current_context().params
        settings = settings_of(given, catalogue, runtime, known, port, sinks)
        options = CloudOptions(
            cuts=catalogue.cuts,
            deadline_s=deadline_ms / 1000,
            metrics=metrics,
            read_keys=read_keys,
            settings=settings,
            differing=first_line(given),
            live=not prints_on_terminal(results),
            page=PageOptions(web, "cloud", str(listen), settings, insecure, http_token) if web else None,
            runtime=runtime,
            sinks=sinks,
            infer=asked,
        )
        with show_progress() as fetching:
            stores = {network: trained(network, weights, fetching) for network in catalogue.networks}
        fills = in_time(catalogue.concealments, fill_ms / 1000, log)
        load_now = partial(load, runtime, catalogue, stores, fills, open_workers)
        totals = run_cloud(options, port, file, load_now, log)
    if as_json:
        click.echo(json.dumps(totals))
    else:
        log.totals(totals)


def settings_of(
    given: Mapping[str, Any],
    catalogue: Catalogue,
    runtime: str,
    keys: Iterable[bytes],
    port: Port,
    sinks: Iterable[str],
) -> dict[str, object]:
    """Return what was decided, by name: from the `given` options, and what they turned out to mean."""
    from gradfec_common.codes import CODES
    from gradfec_common.networks import full_name

    return {
        "split": ", ".join(map(full_name, catalogue.cuts)),
        "runtime": runtime,
        "fill": given["fill"],
        "fill_ms": given["fill_ms"],
        **({"backend": given["backend"]} if given["backend"] else {}),
        "codes": [code.name for code in CODES.values()],
        "deadline_ms": given["deadline_ms"],
        **({"insecure": True} if given["insecure"] else {"key_ids": [key.hex() for key in keys]}),
        "receive_buffer_bytes": port.receive_buffer_bytes,
        **({"workers": given["workers"]} if given["workers"] != "local" else {}),
        "udp": "batched" if port.batched else "plain",
        "results": given["results"],
        "metrics": given["metrics"] and str(given["metrics"]),
        "answers_to": [*sinks] or None,
        "infer": given["infer"] and str(given["infer"]),
        "config": config_used().path,
        "version": version(),
    }


def first_line(given: Mapping[str, Any]) -> dict[str, object]:
    """Return what the first line says of the settings."""
    return differing({name: given[name] for name in given if name not in LEFT_OUT}) | {"config": config_used().path}


def infer_options(infer: Endpoint, token_file: Path | None, catalogue: Catalogue) -> InferOptions:
    """Return where to serve inference requests; UsageError if everybody could ask."""
    from gradfec_cloud.daemon import InferOptions
    from gradfec_common.errors import UsageError
    from gradfec_host.extras import need
    from gradfec_web.access import choose_token, is_loopback

    need("uvicorn")
    if token_file is None and not is_loopback(infer.host):
        raise UsageError(f"--infer {infer} can be reached from outside: give it a token, with --http-token FILE")
    return InferOptions(infer, choose_token(infer, token_file), catalogue.pictures)


def load(
    runtime: str,
    catalogue: Catalogue,
    weights: Mapping[Network, Weights | Model],
    fills: Mapping[Cut, Concealment],
    open_workers: OpenWorkers,
    deliver: Callable[[list[Inferred]], None],
) -> Inference:
    """Load the back-ends and start inference on them."""
    from gradfec_cloud.catalogue import answer_at
    from gradfec_cloud.inference import MAX_BATCH, Inference
    from gradfec_cloud.priority import let_network_first

    let_network_first()  # also the threads that are started from here
    max_batch = 1 if runtime == LITERT else MAX_BATCH  # LiteRT gains nothing by a batch, which only delays every answer
    workers = partial(open_workers, catalogue.stations(runtime, weights, fills, max_batch))
    return Inference(workers, answer_at, deliver, max_batch=max_batch)
