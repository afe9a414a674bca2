"""Short files are read whole; what is longer, or never written, is refused in one line."""

import os
import threading
from pathlib import Path

import pytest

from gradfec_common.errors import GradfecError
from gradfec_host import short_files
from gradfec_host.config import parse
from gradfec_host.models.labels import read_labels
from gradfec_host.short_files import read_short
from gradfec_host.split_table import read_json


def test_a_file_of_at_most_so_many_bytes_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert read_short(tmp_path / "file", 3) == b"abc"
    with pytest.raises(OSError, match="it has more than 2 bytes"):
        read_short(tmp_path / "file", 2)


def test_a_pipe_is_read_once_somebody_writes_to_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"x" * 100_000,))
    writer.start()
    assert read_short(tmp_path / "pipe") == b"x" * 100_000
    writer.join()


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(short_files, "PIPE_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"nobody wrote to it for 0\.05 s"):
        read_short(tmp_path / "pipe")


@pytest.mark.parametrize("read", [parse, read_labels, read_json])
def test_a_device_without_end_and_a_file_of_holes_are_one_clear_line(tmp_path, read):
    holes = tmp_path / "holes"
    holes.touch()
    os.truncate(holes, 10 << 30)
    for path in (Path("/dev/zero"), holes):
        with pytest.raises(GradfecError, match=rf"{path}: it has more than 16777216 bytes"):
            read(path)
