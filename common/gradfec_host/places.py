"""Where the user's settings are kept: keys, and what the daemons are told."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def settings_folder() -> Path:
    """Return $GRADFEC_HOME, or the platform's directory for settings: ~/.config/gradfec on Linux.

    Not the one for caches, which may be cleaned.
    """
    home = os.environ.get("GRADFEC_HOME")
    return Path(home).expanduser() if home else platformdirs.user_config_path("gradfec", appauthor=False)
