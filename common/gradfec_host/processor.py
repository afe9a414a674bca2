"""Which cipher this machine's processor computes fastest."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from gradfec_common.ciphers import Cipher


def preferred_cipher(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cipher:
    """Return AES if the processor has instructions for it, otherwise ChaCha20, because AES would be slow.

    On Linux, /proc/cpuinfo says so. On macOS and Windows, every x86-64 and arm64 processor is assumed to have them.
    """
    if sys.platform.startswith("linux"):
        return Cipher.AES_256_GCM if _says_aes(cpuinfo) else Cipher.CHACHA20_POLY1305
    has_aes = sys.platform in ("darwin", "win32") and platform.machine().lower() in ("x86_64", "amd64", "arm64")
    return Cipher.AES_256_GCM if has_aes else Cipher.CHACHA20_POLY1305


def _says_aes(cpuinfo: Path) -> bool:
    """Return whether the first processor with flags (x86) or features (Arm) lists aes among them."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    features = [value.split() for name, _, value in (line.partition(":") for line in lines) if _lists_features(name)]
    return bool(features) and "aes" in features[0]


def _lists_features(name: str) -> bool:
    return name.strip().lower() in ("flags", "features")
