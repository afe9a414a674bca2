"""As a script, an edge that changes the split after half a second instead of half a minute."""

from __future__ import annotations

import sys

HASTY = (sys.executable, __file__)

if __name__ == "__main__":
    from gradfec_common import splits
    from gradfec_edge.cli import main

    splits.CHANGES_AFTER_S = 0.5
    main(prog_name="gradfec-edge")
