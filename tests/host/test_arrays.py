"""Files of arrays: what they say of their size is read before they are, and only arrays come out."""

import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from gradfec_host import arrays
from gradfec_host.arrays import read_arrays, write_arrays


def test_arrays_come_back_as_they_were_written(tmp_path):
    write_arrays(tmp_path / "a.npz", {"of/one": np.arange(3, dtype=np.float32), "said": np.array("text")})
    back = read_arrays(tmp_path / "a.npz")
    assert str(back.pop("said")) == "text"
    np.testing.assert_array_equal(back.pop("of/one"), np.arange(3, dtype=np.float32))
    assert not back


def test_a_small_file_of_too_many_zeros_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 10_000_000)
    write_arrays(tmp_path / "a.npz", {name: np.zeros(6_000_000, np.uint8) for name in "ab"})
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 10000000"):
        read_arrays(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_refused(tmp_path, compression):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("a.npy", b"anything")
    with pytest.raises(ValueError, match="in another way"):
        read_arrays(tmp_path / "a.npz")


def test_a_member_that_is_no_array_is_damage(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", b"anything")
    with pytest.raises(ValueError, match="not an array"):
        read_arrays(tmp_path / "a.npz")


def test_a_pipe_or_a_device_is_no_archive_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    for path in (tmp_path / "a.npz", "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            read_arrays(path)
