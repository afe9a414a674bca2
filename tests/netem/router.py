"""A router with the kernel's netem: a small virtual machine between two network namespaces, the edge's and the cloud's.

    namespace of the edge                    virtual machine                  namespace of the cloud
    10.77.0.2  tap ----------- eth0 10.77.0.1   10.77.1.1 eth1 ----------- tap  10.77.1.2
                                              netem ^ on what leaves here

Needs root, and what `missing` names. The machine's console is the way in: a line is a command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUEUE = 100_000  # packets, more than any run sends at once: netem's own 1000 would lose what nobody asked it to lose
BOOT_S = 300.0  # six seconds on an idle machine
COMMAND_S = 60.0
SIDES = ("edge", "cloud")
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "ip": "iproute2",
    "tc": "iproute2",
    "ethtool": "ethtool",
    "depmod": "kmod",
    "apt-get": "apt, which is Debian's",
}


def missing() -> str:
    """Say what keeps this machine from running the router, or nothing."""
    if os.name != "posix" or os.geteuid() != 0:
        return "making network namespaces and taps needs root"
    absent = {package for tool, package in TOOLS.items() if shutil.which(tool, path=search_path()) is None}
    if absent:
        return f"apt-get install --no-install-recommends {' '.join(sorted(absent))}"
    return "" if Path("/dev/net/tun").exists() else "there is no /dev/net/tun: modprobe tun"


def search_path() -> str:
    """Return where tools are looked for: root's may not be on an ordinary PATH."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def call(*words: str) -> str:
    """Run a command; CalledProcessError, with what it said, if it fails."""
    done = subprocess.run(
        words, check=True, text=True, env={**os.environ, "PATH": search_path()}, stdout=-1, stderr=subprocess.STDOUT
    )
    return done.stdout


@dataclass(frozen=True)
class Counters:
    """What netem says of itself, and what the two network cards of the machine have thrown away."""

    sent: int
    dropped: int
    card_drops: int


class Router:
    """The running machine."""

    def __init__(self, console: subprocess.Popen[str], namespaces: dict[str, str], taps: dict[str, str]) -> None:
        """Talk to a machine by its console; `namespaces` and `taps` are the names of its two sides'."""
        self.namespaces, self.taps = namespaces, taps
        self._console = console

    def inside(self, side: str, *program: str) -> list[str]:
        """Return the command that runs a program in a side's namespace."""
        return ["ip", "netns", "exec", self.namespaces[side], *program]

    def wait_until_it_is_up(self) -> None:
        """Wait for the machine to have booted."""
        self._read_until("ready", BOOT_S)

    def run(self, line: str) -> str:
        """Run a line of shell in the machine and return what it says; RuntimeError if it fails."""
        assert self._console.stdin
        self._console.stdin.write(line + "\n")
        self._console.stdin.flush()
        said, code = self._read_until("done: ", COMMAND_S)
        if code.strip() != "0":
            raise RuntimeError(f"in the router, {line!r} failed: {said}")
        return said

    def shape(self, words: str) -> None:
        """Have netem impair what leaves for the cloud, from a fresh start with its counters at 0."""
        self.run("tc qdisc del dev eth1 root 2>/dev/null; true")
        self.run(f"tc qdisc add dev eth1 root netem {words} limit {QUEUE}")

    def counters(self) -> Counters:
        """Read what became of the packets since `shape`."""
        qdisc: dict[str, Any] = json.loads(self.run("tc -s -j qdisc show dev eth1"))[0]
        cards = [json.loads(self.run(f"ip -s -j link show dev eth{i}"))[0]["stats64"] for i in (0, 1)]
        drops = sum(card[way][kind] for card in cards for way in ("rx", "tx") for kind in ("dropped", "errors"))
        return Counters(qdisc["packets"], qdisc["drops"], drops)

    def _read_until(self, words: str, patience_s: float) -> tuple[str, str]:
        """Read lines until one begins with `words`; return those before it, and its rest."""
        assert self._console.stdout
        watchdog = threading.Timer(patience_s, self._console.kill)
        watchdog.start()
        said = []
        try:
            for line in self._console.stdout:
                if line.startswith(words):
                    return "".join(said), line[len(words) :]
                said.append(line.replace("\r", ""))
        finally:
            watchdog.cancel()
        raise RuntimeError(f"the router has not said {words!r} in {patience_s:.0f} s: {''.join(said)[-500:]}")


@contextmanager
def router(folder: Path) -> Iterator[Router]:
    """Build the machine in `folder` unless it is there, boot it between two new namespaces, and clear all away."""
    if not (folder / "initramfs").exists():
        call("sh", str(HERE / "build.sh"), str(folder))
    namespaces = {side: f"gradfec-{side}-{os.getpid()}" for side in SIDES}
    taps = {side: f"gf{side[:1]}{os.getpid()}" for side in SIDES}
    with ExitStack() as stack:
        for side in SIDES:
            call("ip", "netns", "add", namespaces[side])
            stack.callback(call, "ip", "netns", "delete", namespaces[side])
            call("ip", "tuntap", "add", "dev", taps[side], "mode", "tap", "vnet_hdr")
            stack.callback(subprocess.run, ["ip", "link", "delete", taps[side]], stderr=subprocess.DEVNULL, check=False)
        console = subprocess.Popen(
            machine(folder, [*taps.values()]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        stack.callback(console.wait)
        stack.callback(console.kill)
        running = Router(console, namespaces, taps)
        running.wait_until_it_is_up()
        for number, side in enumerate(SIDES):
            join(number, namespaces[side], taps[side])
        yield running


def machine(folder: Path, taps: Sequence[str]) -> list[str]:
    """Return qemu's command line."""
    words = ["qemu-system-x86_64", "-m", "192", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += ["-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initramfs"), "-serial", "stdio"]
    words += ["-append", "console=ttyS0 quiet panic=-1 ipv6.disable=1"]
    for number, tap in enumerate(taps):
        words += ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no"]
        card = f"virtio-net-pci,netdev=net{number},mac=02:00:00:77:0{number}:01,rx_queue_size=1024"
        words += ["-device", card]
    return words


def join(number: int, namespace: str, tap: str) -> None:
    """Move a tap into its namespace, with an address and a way to the other side.

    Nothing is left to be found out by packets of its own, which netem would lose and count, too; and offload is off: a
    queue loses what the kernel takes for one packet as one.
    """
    call("ip", "link", "set", tap, "netns", namespace)
    inside = ("ip", "-n", namespace)
    call("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    call(*inside, "link", "set", "lo", "up")
    call(*inside, "link", "set", tap, "address", f"02:00:00:77:0{number}:02", "txqueuelen", "10000", "up")
    call(*inside, "address", "add", f"10.77.{number}.2/24", "dev", tap)
    router = f"10.77.{number}.1"
    call(*inside, "neighbour", "add", router, "lladdr", f"02:00:00:77:0{number}:01", "dev", tap, "nud", "permanent")
    call(*inside, "route", "add", "default", "via", router)
    call("ip", "netns", "exec", namespace, "ethtool", "-K", tap, "tso", "off", "gso", "off", "gro", "off")
