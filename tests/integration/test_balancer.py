"""Two gateways behind nginx as docs/how-to/cluster.md sets it up: an edge keeps its gateway, and survives its death."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.integration.test_survival import cloud, edge

from gradfec_cli.daemons import free_port

PAGE = Path(__file__).parents[2] / "docs/how-to/cluster.md"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

pytestmark = pytest.mark.skipif(
    NGINX is None or not MODULE.exists(),
    reason="nginx is not installed: it is in Debian's packages nginx-core and libnginx-mod-stream",
)


@contextmanager
def nginx(folder: Path, port: int, gateways: list[int]) -> Iterator[None]:
    """Run nginx with the page's configuration, but for its addresses."""
    page = PAGE.read_text()
    stream = textwrap.dedent(page[page.index("    stream {") : page.index("Cameras behind one router")])
    for number, gateway in enumerate(gateways, start=1):
        stream = stream.replace(f"10.0.0.{number}:9000", f"127.0.0.1:{gateway}")
    stream = stream.replace("listen 9000", f"listen 127.0.0.1:{port}")
    files = f"pid {folder}/pid; error_log {folder}/error.log info;"
    config = folder / "nginx.conf"
    config.write_text(f"load_module {MODULE};\ndaemon off; {files}\nevents {{}}\n{stream}")
    with subprocess.Popen([str(NGINX), "-c", str(config), "-e", f"{folder}/error.log"]) as process:
        try:
            yield
        finally:
            process.terminate()


def test_an_edge_keeps_its_gateway_and_goes_on_with_the_other_when_that_one_dies(
    photographs: Path, tmp_path: Path
) -> None:
    front, ports = free_port(), [free_port(), free_port()]
    with ExitStack() as stack:
        gateways = [stack.enter_context(cloud(port)) for port in ports]
        stack.enter_context(nginx(tmp_path, front, ports))
        _, answers = stack.enter_context(edge(photographs, front, tmp_path / "edge.jsonl"))
        answers.wait_for_more(6)
        assert len({record["session"] for record in answers.read()}) == 1
        (busy,) = [gateway for gateway in gateways if any("connected" in line for line in gateway.said)]
        (idle,) = [gateway for gateway in gateways if gateway is not busy]
        busy.process.kill()
        idle.wait_until_it_says("connected")
        answers.wait_for_more()
        assert len({record["session"] for record in answers.read()}) == 2
