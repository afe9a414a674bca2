"""The command `gradfec-cloud`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_host import logs
from gradfec_host.config import config_option, config_used, differing
from gradfec_host.console import (
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
from gradfec_host.runtimes import LITERT, choose_runtime

if TYPE_CHECKING:
    from gradfec_cloud.catalogue import Catalogue
    from gradfec_cloud.inference import Inference, Inferred
    from gradfec_common.networks import Network
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


@click.command(epilog=EXAMPLES, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--listen", required=True, type=EndpointType(""), help="UDP port to listen on, on all interfaces by default."
)
@click.option(
    "--split",
    metavar="LAYERS",
    help="Last layer that runs on the edges; the cloud runs the rest. Several, separated by commas: each edge chooses "
    "one of them.  [default: conv2_block1_add, and input_layer, which is loaded when the first picture comes]",
)
@click.option(
    "--codec",
    metavar="FILES",
    help="Also serve edges with this bottleneck, a file made by gradfec train-codec. Several, separated by commas. "
    "Those that are shipped for the split are always served.",
)
@click.option(
    "--fill",
    default="zero",
    metavar="NAME",
    help="What stands in for a missing packet: zero, or mean, its channel's mean over training images. A bottleneck's "
    "decoder is always told what is missing (mask).",
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
    split: str | None,
    codec: str | None,
    fill: str,
    backend: str | None,
    deadline_ms: int,
    results: str | None,
    metrics: Endpoint | None,
    web: Endpoint | None,
    weights: Path | None,
    runtime: str,
    key_file: Path | None,
    keys: Path | None,
    insecure: bool,
    udp: str,
    as_json: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Receive features from edges over a lossy link, run the rest of the network, and send the answers back."""
    import contextlib

    from gradfec_cloud.access import key_source
    from gradfec_cloud.catalogue import chosen_catalogue
    from gradfec_cloud.daemon import CloudOptions, run_cloud
    from gradfec_cloud.port import RECEIVE_BUFFER_BYTES, Port, small_buffer_hint
    from gradfec_common.codes import CODES
    from gradfec_common.networks import full_name
    from gradfec_host.codec_file import weights_of
    from gradfec_host.results import ResultsFile
    from gradfec_host.weights.progress import show_progress
    from gradfec_web.shown import PageOptions

    log = logs.configure("gradfec-cloud", log_format, log_level)
    catalogue = chosen_catalogue(split, fill, codec, backend)
    runtime = choose_runtime(runtime)
    read_keys = key_source(key_file, keys, insecure=insecure)
    known = read_keys()  # fail early
    with contextlib.ExitStack() as stack:
        port = Port(listen, batched=udp == "auto")
        stack.callback(port.close)
        file = stack.enter_context(ResultsFile(results)) if results else None
        if port.receive_buffer_bytes < RECEIVE_BUFFER_BYTES:
            log.warning(small_buffer_hint(port.receive_buffer_bytes), event="small_buffer")
        settings: dict[str, object] = {
            "split": ", ".join(map(full_name, catalogue.cuts)),
            "runtime": runtime,
            "fill": fill,
            **({"backend": backend} if backend else {}),
            "codes": [code.name for code in CODES.values()],
            "deadline_ms": deadline_ms,
            **({"insecure": True} if insecure else {"key_ids": [key.hex() for key in known]}),
            "receive_buffer_bytes": port.receive_buffer_bytes,
            "udp": "batched" if port.batched else "plain",
            "results": results,
            "metrics": metrics and str(metrics),
            "config": config_used().path,
            "version": version(),
        }
        page = PageOptions(web, "cloud", str(listen), settings, insecure) if web else None
        live = not prints_on_terminal(results)
        given = click.get_current_context().params
        changed = differing({name: given[name] for name in given if name not in LEFT_OUT})
        options = CloudOptions(
            catalogue.cuts,
            deadline_ms / 1000,
            metrics,
            read_keys,
            settings,
            changed | {"config": config_used().path},
            live,
            page,
            runtime,
        )
        with show_progress() as fetching:
            stores = {network: weights_of(network, weights, fetching) for network in catalogue.networks}
        load_now = partial(load, runtime, catalogue, stores)
        totals = run_cloud(options, port, file, load_now, log)
    if as_json:
        click.echo(json.dumps(totals))
    else:
        log.totals(totals)


def load(
    runtime: str,
    catalogue: Catalogue,
    weights: Mapping[Network, Weights],
    deliver: Callable[[list[Inferred]], None],
) -> Inference:
    """Load the back-ends and start inference on them."""
    from gradfec_cloud.catalogue import answer_at
    from gradfec_cloud.decoding import Decoder
    from gradfec_cloud.inference import MAX_BATCH, Inference
    from gradfec_cloud.priority import let_network_first
    from gradfec_cloud.workers import WORKERS

    let_network_first()  # also the threads that are started from here
    max_batch = 1 if runtime == LITERT else MAX_BATCH  # LiteRT gains nothing by a batch, which only delays every answer
    workers = partial(WORKERS["local"], catalogue.loaders(runtime, weights, max_batch))
    return Inference(workers, Decoder(catalogue.concealments), answer_at, deliver, max_batch=max_batch)
