"""`gradfec bench codes`: what each erasure code costs and how well it protects, by block size.

A block is one code word. In a plan of FEC_A_B, it is the only stripe of a group.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gradfec_common.codes import CODES, LEOPARD, ZFEC, Each, ErasureCode, Symbols
from gradfec_common.codes.zfec_code import ZfecCode
from gradfec_common.errors import UsageError
from gradfec_common.protect import UNKNOWN_LINK, Plan, Room, UnequalProtection
from gradfec_host.console import CONTEXT, plain_errors
from gradfec_lab.bench.measure import in_words, machine, median_ms
from gradfec_lab.theory import decode_probability, expected_missing

DECODE_AT = 0.9  # the share of its parity that each block loses when decoding is timed
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
    """The effect of a loss: the probability that a whole tensor decodes, and the share of its data lost for good."""

    loss: float
    decodes: float
    missing: float


@dataclass(frozen=True)
class Measured:
    """The cost of coding one tensor with one code, block size and A, and how well that protects.

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


class Block(NamedTuple):
    """One code word: its `data` symbols (k, length), and the symbols (m, length) that `arrived`, by their indices."""

    code: ErasureCode
    n: int
    data: Symbols
    arrived: Symbols
    indices: npt.NDArray[np.intp]


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
    policies = [UnequalProtection(a, code) for code in (ZFEC, *(ZfecCode(int(n)) for n in block)) for a in drop]
    if LEOPARD.id in CODES:
        policies += [UnequalProtection(a, LEOPARD) for a in drop]
    described = machine(*LIBRARIES)
    console = Console(stderr=True)
    rows = [
        measure(policy, packets, symbol_bytes, [share / 100 for share in loss], runs)
        for policy in track(policies, "coding", console=console, transient=True)
    ]
    if as_json:
        found = {"machine": described, "packets": packets, "symbol_bytes": symbol_bytes, "runs": runs}
        click.echo(json.dumps({**found, "codes": [asdict(row) for row in rows]}))
        return
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, LEAST_LEGIBLE)
    out.print(in_words(described), style="dim", soft_wrap=True)
    out.print(cost_table(rows, f"{packets} packets, symbols of {symbol_bytes} B, ms a tensor, median of {runs} runs"))
    out.print(protection_table(rows))


def measure(policy: UnequalProtection, packets: int, symbol_bytes: int, shares: Sequence[float], runs: int) -> Measured:
    """Time encoding and decoding one tensor, and calculate the effect of losses of `shares` of A."""
    rng = np.random.default_rng(0)
    plan = plan_of(policy, rng.random(packets).astype(np.float32))
    blocks = [make_block(stripe.code, n, stripe.k, symbol_bytes, rng) for n, stripe in plan.stripes]

    def encode(each: Each) -> None:
        [*each(lambda block: block.code.encode(block.data, block.n), blocks)]

    def decode(each: Each) -> None:
        [*each(lambda block: block.code.decode(block.arrived, block.indices, len(block.data), block.n), blocks)]

    a = policy.dropped_percent / 100
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return Measured(
            code=name_of(policy.code),
            drop_percent=policy.dropped_percent,
            blocks=len(blocks),
            n=max(block.n for block in blocks),
            k=max(len(block.data) for block in blocks),
            encode_ms=median_ms(lambda: encode(pool.map), runs),
            decode_ms=median_ms(lambda: decode(pool.map), runs),
            encode_cpu_ms=median_ms(lambda: encode(map), runs, time.process_time),
            decode_cpu_ms=median_ms(lambda: decode(map), runs, time.process_time),
            protection=[
                Protection(s * a, decode_probability(plan.shapes, s * a), expected_missing(plan.shapes, s * a))
                for s in shares
            ],
        )


def name_of(code: ErasureCode) -> str:
    """Write a code as for --fec: with the size of its groups, if one was asked for."""
    return f"{code.name}:{code.group}" if isinstance(code, ZfecCode) and code.group else code.name


def plan_of(policy: UnequalProtection, importance: npt.NDArray[np.float32]) -> Plan:
    """Plan for packets (count,), each of which is one data symbol; its length does not matter to the plan."""
    return policy.plan(importance, np.ones(len(importance), np.intp), UNKNOWN_LINK, Room(100, packets_a_symbol=1))


def make_block(code: ErasureCode, n: int, k: int, symbol_bytes: int, rng: np.random.Generator) -> Block:
    """Draw a block's data, and lose the share DECODE_AT of its parity."""
    data = rng.integers(0, 256, (k, symbol_bytes), np.uint8)
    symbols = np.concatenate([data, code.encode(data, n)])
    indices = np.sort(rng.permutation(n)[int(DECODE_AT * (n - k)) :])
    return Block(code, n, data, symbols[indices], indices)


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
