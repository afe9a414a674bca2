"""What this machine's processor is good at."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from gradfec_common.ciphers import Cipher


def preferred_cipher(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cipher:
    """Return AES where the processor has instructions for it, else ChaCha20: there AES would be slow.

    Linux says so in /proc/cpuinfo; elsewhere every x86-64 and arm64 that macOS or Windows run on is taken to have them.
    """
    if sys.platform.startswith("linux"):
        return Cipher.AES_256_GCM if _says_aes(cpuinfo) else Cipher.CHACHA20_POLY1305
    has_aes = sys.platform in ("darwin", "win32") and platform.machine().lower() in ("x86_64", "amd64", "arm64")
    return Cipher.AES_256_GCM if has_aes else Cipher.CHACHA20_POLY1305


def _says_aes(cpuinfo: Path) -> bool:
    """Tell whether the flags (x86) or features (Arm) of the first processor that has any include aes."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return False
    features = [value.split() for name, _, value in (line.partition(":") for line in lines) if _lists_features(name)]
    return bool(features) and "aes" in features[0]


def _lists_features(name: str) -> bool:
    return name.strip().lower() in ("flags", "features")
