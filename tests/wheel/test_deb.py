"""`make deb`: what is in the package of the edge, and that it runs where it is unpacked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 150e6


@pytest.mark.wheel
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")
def test_the_package_of_the_edge_runs_where_it_is_unpacked(tmp_path: Path) -> None:
    subprocess.run(["make", "deb"], cwd=ROOT, check=True)
    (package,) = (ROOT / "dist").glob("gradfec-edge_*.deb")
    assert package.stat().st_size < MOST_BYTES
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    service = (tmp_path / "lib/systemd/system/gradfec-edge.service").read_text()
    program = re.findall(r"ExecStart=(\S+)", service)[0].lstrip("/")
    python = tmp_path / "opt/gradfec/bin/python"
    for wanted in (program, "opt/gradfec/bin/gradfec"):
        said = subprocess.run([python, tmp_path / wanted, "--version"], capture_output=True, text=True, check=True)
        assert "version" in said.stdout
    for command in ("gradfec", "gradfec-edge"):
        assert str((tmp_path / "usr/bin" / command).readlink()) == f"/opt/gradfec/bin/{command}"
    assert (tmp_path / "opt/gradfec/bin/gradfec").read_text().startswith("#!/opt/gradfec/bin/python")
