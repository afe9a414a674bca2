"""Where the user's settings are: keys, and the daemons' settings files."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def settings_folder() -> Path:
    """Return $GRADFEC_HOME, or the platform's directory for settings: ~/.config/gradfec on Linux.

    Not the directory for caches, because those may be deleted at any time.
    """
    home = os.environ.get("GRADFEC_HOME")
    return Path(home).expanduser() if home else platformdirs.user_config_path("gradfec", appauthor=False)
