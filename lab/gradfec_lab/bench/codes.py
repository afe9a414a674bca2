"""`gradfec bench codes`: what each erasure code costs and how well it protects, by block size."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import click
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gradfec_common.codes import CODES, LEOPARD, ZFEC, Each, Symbols
from gradfec_common.codes.zfec_code import ZfecCode
from gradfec_common.errors import UsageError
from gradfec_common.plan import Block, UnequalProtection
from gradfec_host.console import plain_errors
from gradfec_lab.bench.measure import in_words, machine, median_ms
from gradfec_lab.theory import decode_probability, expected_missing

CONTEXT = {"show_default": True, "help_option_names": ["-h", "--help"]}
DECODE_AT = 0.9  # when decoding is timed, each block loses this share of what its parity can repair
LIBRARIES = ("numpy", "zfec", "reed-solomon-leopard")
LEAST_LEGIBLE = 100  # columns, if the tables do not go to a terminal


def numbers(kind: type[int] | type[float], least: float, most: float) -> click.ParamType[list[float]]:
    """Return a click type for a list such as `10,20,50` of numbers within bounds."""

    class Numbers(click.ParamType[list[float]]):
        name = "NUMBERS"

        def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
            found = []
            for part in str(value).split(","):
                try:
                    number = kind(part)
                except ValueError:
                    self.fail(f"{part!r} is not a number: write for example 10,20", param, ctx)
                if not least <= number <= most:
                    self.fail(f"{part} is not in the range from {least:g} to {most:g}", param, ctx)
                found.append(number)
            return found

    return Numbers()


@dataclass(frozen=True)
class Protection:
    """The effect of a loss: the probability that a tensor decodes, and the share of its data lost for good."""

    loss: float
    decodes: float
    missing: float


@dataclass(frozen=True)
class Measured:
    """What coding one tensor costs with one code, block size and A, and how well it protects.

    Times are with one thread for each core, CPU times with one thread.
    """

    code: str
    drop_percent: float
    blocks: int
    n: int
    k: int
    encode_ms: float
    decode_ms: float
    encode_cpu_ms: float
    decode_cpu_ms: float
    protection: list[Protection]


@click.command(context_settings=CONTEXT)
@click.option("--drop", default="10,20,50", type=numbers(float, 0.1, 99), help="A of FEC_A_B, in percent.")
@click.option(
    "--block",
    default="32,64,128,256",
    type=numbers(int, 2, ZFEC.max_n),
    help="Sizes of zfec's blocks, besides its default.",
)
@click.option("--loss", default="70,80,90", type=numbers(float, 0, 100), help="Losses, in percent of A.")
@click.option("--packets", default=2048, type=click.IntRange(2, LEOPARD.max_n), help="Packets in a tensor.")
@click.option("--symbol-bytes", default=394, type=click.IntRange(2, 1156), help="Bytes in a symbol, an even number.")
@click.option("--runs", default=7, type=click.IntRange(1), help="Runs after the warm-up, of which to take the median.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@plain_errors
def codes(
    drop: list[float], block: list[float], loss: list[float], packets: int, symbol_bytes: int, runs: int, as_json: bool
) -> None:
    """Encode and decode a tensor with each code and block size, and show how well each one protects.

    Times are for coding only, all blocks of a tensor, in threads as in the daemons. CPU times are for one thread. The
    effect of a loss is exact theory for independent losses; the tests check the codes against it.
    """
    if symbol_bytes % 2:
        raise UsageError(f"--symbol-bytes {symbol_bytes} is odd, and leopard codes pairs of bytes: use an even number")
    schemes = [UnequalProtection(a, code) for code in (ZFEC, *(ZfecCode(int(n)) for n in block)) for a in drop]
    if LEOPARD.id in CODES:
        schemes += [UnequalProtection(a, LEOPARD) for a in drop]
    described = machine(*LIBRARIES)
    console = Console(stderr=True)
    rows = [
        measure(scheme, packets, symbol_bytes, [share / 100 for share in loss], runs)
        for scheme in track(schemes, "coding", console=console, transient=True)
    ]
    if as_json:
        found = {"machine": described, "packets": packets, "symbol_bytes": symbol_bytes, "runs": runs}
        click.echo(json.dumps({**found, "codes": [asdict(row) for row in rows]}))
        return
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, LEAST_LEGIBLE)
    out.print(in_words(described), style="dim")
    out.print(cost_table(rows, f"{packets} packets, symbols of {symbol_bytes} B, ms a tensor, median of {runs} runs"))
    out.print(protection_table(rows))


def measure(scheme: UnequalProtection, packets: int, symbol_bytes: int, shares: Sequence[float], runs: int) -> Measured:
    """Time encoding and decoding one tensor, and calculate the effect of losses of `shares` of A."""
    rng = np.random.default_rng(0)
    plan = scheme.plan(rng.random(packets).astype(np.float32))
    data = [rng.integers(0, 256, (block.k, symbol_bytes), np.uint8) for block in plan.blocks]
    received = [lose(block, symbols, rng) for block, symbols in zip(plan.blocks, data, strict=True)]

    def encode(each: Each) -> None:
        [*each(lambda of: of[0].code.encode(of[1], of[0].n), zip(plan.blocks, data, strict=True))]

    def decode(each: Each) -> None:
        blocks = zip(plan.blocks, received, strict=True)
        [*each(lambda of: of[0].code.decode(*of[1], of[0].k, of[0].n), blocks)]

    a = scheme.dropped_percent / 100
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return Measured(
            code=scheme.code.name,
            drop_percent=scheme.dropped_percent,
            blocks=len(plan.blocks),
            n=max(block.n for block in plan.blocks),
            k=max(block.k for block in plan.blocks),
            encode_ms=median_ms(lambda: encode(pool.map), runs),
            decode_ms=median_ms(lambda: decode(pool.map), runs),
            encode_cpu_ms=median_ms(lambda: encode(map), runs, time.process_time),
            decode_cpu_ms=median_ms(lambda: decode(map), runs, time.process_time),
            protection=[
                Protection(s * a, decode_probability(plan.blocks, s * a), expected_missing(plan.blocks, s * a))
                for s in shares
            ],
        )


def lose(block: Block, data: Symbols, rng: np.random.Generator) -> tuple[Symbols, npt.NDArray[np.intp]]:
    """Return a block's symbols that arrive at the loss DECODE_AT, and their indices."""
    symbols = np.concatenate([data, block.code.encode(data, block.n)])
    arrived = np.sort(rng.permutation(block.n)[int(DECODE_AT * (block.n - block.k)) :])
    return symbols[arrived], arrived


def cost_table(rows: Sequence[Measured], title: str) -> Table:
    """Make the table of costs."""
    table = Table(title=title, box=SIMPLE_HEAD)
    for heading in ("code", "A", "blocks (n, k)", "encode", "decode", "encode, CPU", "decode, CPU"):
        table.add_column(heading, justify="left" if heading == "code" else "right")
    for row in rows:
        times = (row.encode_ms, row.decode_ms, row.encode_cpu_ms, row.decode_cpu_ms)
        table.add_row(row.code, *shape(row), *(f"{ms:.1f}" for ms in times))
    return table


def protection_table(rows: Sequence[Measured]) -> Table:
    """Make the table of the effects of losses."""
    title = "independent losses: probability that a tensor decodes whole / share of its data lost for good"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("code")
    table.add_column("A", justify="right")
    table.add_column("blocks (n, k)", justify="right")
    for protection in rows[0].protection if rows else ():
        table.add_column(f"lost: {100 * protection.loss / rows[0].drop_percent:.0%} of A", justify="right")
    for row in rows:
        cells = (f"{100 * p.decodes:.1f} % / {100 * p.missing:.2f} %" for p in row.protection)
        table.add_row(row.code, *shape(row), *cells)
    return table


def shape(row: Measured) -> tuple[str, str]:
    """Return a row's A and blocks as text."""
    return f"{row.drop_percent:g} %", f"{row.blocks} x ({row.n}, {row.k})"
