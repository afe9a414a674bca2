"""`python -m tests.web.figure`: take docs/figures/live-page.png anew.

Real daemons, the demo's photographs and a loss injector: the edge's own page with the defaults, over a bad link.
"""

from __future__ import annotations

import io
import os
import signal
import tempfile
from pathlib import Path

import click
from PIL import Image
from playwright.sync_api import sync_playwright
from tests.web.visits import CHROMIUM

from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.demo import photographs
from gradfec_cli.experiment import Link, injector

FIGURE = Path(__file__).parents[2] / "docs/figures/live-page.png"
SIZE = {"width": 1100, "height": 765}  # down to the numbers
FPS = 2.0
SEEN_S = 40.0  # so that the edge knows the link
COMES_ROUND_S = 60.0  # a photograph
# Whether the page shows a photograph that was answered, and all is well: the number of its frame is in the lead, and
# its file in the table. On a machine that is busy, answers come too late, and this never happens.
SHOWN = r"""name => {
    if (!document.querySelector(".live.good")) return false;
    const number = document.querySelector(".outcome").textContent.match(/^Frame (\d+).*complete/)?.[1];
    const rows = [...document.querySelectorAll(".frames tbody tr")].map(row => row.innerText.split(/\s+/));
    return document.querySelector(".shot").complete && rows.some(row => row[0] === number && row.includes(name));
}"""


@click.command(context_settings={"show_default": True})
@click.option("--loss", default=0.3, help="Share of the datagrams that the link loses.")
@click.option("--burst", default=3.0, help="Mean length of a run of lost datagrams.")
@click.option("--photograph", default="coffee.png", help="The one to wait for.")
@click.option("--model", help="A network that was added, instead of the default.")
@click.option("--fps", default=FPS, help="Frames a second.")
@click.option("--out", default=FIGURE, type=click.Path(path_type=Path, resolve_path=True))
def main(loss: float, burst: float, photograph: str, model: str | None, fps: float, out: Path) -> None:
    """Take the picture of the edge's live page that the README shows."""
    network = ["--model", model] if model else []
    port, web = free_port(), free_port()
    with tempfile.TemporaryDirectory() as place, photographs(None) as folder:
        os.chdir(place)  # the page calls the camera `photos`
        Path("photos").symlink_to(folder)
        camera = ["--camera", "photos", "--loop", "--fps", fps, "--name", "demo", "--web", web, *network]
        with (
            daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *network, ready="listening on"),
            injector(Link(loss, burst, seed=1), port) as (_, relay),
            daemon("gradfec-edge", *camera, "--cloud", f"127.0.0.1:{relay}", ready="connected to") as edge,
            sync_playwright() as driver,
        ):
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE, reduced_motion="reduce")
            page.goto(f"http://127.0.0.1:{web}/")
            page.wait_for_timeout(1000 * SEEN_S)
            page.wait_for_function(SHOWN, arg=photograph, timeout=1000 * COMES_ROUND_S, polling=50)
            edge.process.send_signal(signal.SIGSTOP)  # no other frame takes its place
            taken = Image.open(io.BytesIO(page.screenshot()))
            edge.process.send_signal(signal.SIGCONT)
            browser.close()
    taken.convert("RGB").save(out, optimize=True)
    click.echo(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
