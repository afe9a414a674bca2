"""The help of every program: it teaches, and comes at once, because it loads nothing slow."""

import os
import subprocess
import sys

import pytest

SLOW = {
    "numpy",
    "tensorflow",
    "cv2",
    "h5py",
    "matplotlib",
    "cryptography",
    "uvloop",
    "rich",
    "prometheus_client",
    "zfec",
}


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("gradfec_edge.cli", [], ["--camera", "--cloud", "--mode"]),
        ("gradfec_cloud.cli", [], ["--listen", "--split", "--deadline-ms"]),
        ("gradfec_cli.netem", [], ["gradfec-netem --listen 9001 --to cloud.example:9000 --loss 20% --burst 8"]),
        ("gradfec_cli.cli", ["keygen"], ["--show | ssh", "$GRADFEC_KEY_FILE", "--keys", "Exit status"]),
        (
            "gradfec_cli.cli",
            ["weights"],
            ["$GRADFEC_HOME", "npm", "--from", "--front-end conv2_block1_add --out edge.npz", "Exit status"],
        ),
        ("gradfec_cli.cli", ["doctor"], ["--cloud", "--camera", "--keys", "--results", "--json", "Exit status"]),
        (
            "gradfec_cli.cli",
            ["show"],
            ["IMAGE", "--out", "--importance", "--protect", "--label", "--rows", "--split", "gradfec show cat.jpg"],
        ),
        ("gradfec_cli.cli", ["bench"], ["codes", "udp", "end-to-end"]),
    ],
)
def test_help_teaches_and_loads_nothing_slow(module: str, arguments: list[str], words: list[str]) -> None:
    script = (
        f"import sys; from {module} import main\n"
        f"try: main({[*arguments, '--help']})\n"
        f"finally: print(sorted({SLOW} & {{*sys.modules}}), file=sys.stderr)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert ended.stderr.strip() == "[]"
    assert [word for word in words if word not in ended.stdout] == []
