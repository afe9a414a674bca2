"""The results file: JSON lines. Each record is appended as one whole line, in one write."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from gradfec_common.errors import GradfecError

STDOUT_FD = 1

# The fates of a tensor's datagrams and packets. The cloud knows all of them; an edge may never learn them.
UNKNOWN = "unknown"
DATAGRAM_FATES = ("received", "lost")
PACKET_FATES = ("arrived", "recovered", "missing", "dropped_by_plan")


def datagram_fates(datagrams: Mapping[str, int | None]) -> dict[str, int]:
    """Return how many datagrams had each fate, from the counts of a record's `datagrams`."""
    sent, received = datagrams["sent"] or 0, datagrams["received"]
    if received is None:
        return {UNKNOWN: sent}
    return {"received": received, "lost": max(sent - received, 0)}  # the other side may lie


def packet_fates(packets: Mapping[str, int | None]) -> dict[str, int]:
    """Return how many packets had each fate, from the counts of a record's `packets`."""
    dropped, recovered, missing = packets["dropped_by_plan"] or 0, packets["recovered"], packets["missing"]
    kept = (packets["total"] or 0) - dropped
    if recovered is None or missing is None:
        return {UNKNOWN: kept, "dropped_by_plan": dropped}
    arrived = max(kept - recovered - missing, 0)  # the other side may lie
    return {"arrived": arrived, "recovered": recovered, "missing": missing, "dropped_by_plan": dropped}


class ResultsFile:
    """Append JSON records to a file, or to standard output for "-".

    Nothing is buffered in this process: once write() returns, the record survives a SIGKILL. Records of earlier runs
    stay. If the last one was cut off in the middle of its line, that line is ended before the first new one.
    """

    def __init__(self, path: str | os.PathLike[str], option: str = "--results") -> None:
        """Open the file, or create it; GradfecError, which names the `option`, if that fails."""
        self.option = option
        self.count = 0
        self._to_stdout = os.fspath(path) == "-"
        self._name = "standard output" if self._to_stdout else os.fspath(path)
        self._fd: int | None = None
        self._torn = False  # the file ends in the middle of a line
        try:
            self._fd = STDOUT_FD if self._to_stdout else self._open(Path(path))
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._regular and not self._to_stdout:
                self._torn = _ends_within_a_line(self._fd)
        except OSError as error:
            self.close()
            raise self._failure(error) from None

    def _open(self, path: Path) -> int:
        if not path.parent.is_dir():
            raise GradfecError(
                f"cannot write results to {path}: there is no folder {path.parent}; "
                f"create it, or choose another {self.option}"
            )
        # Open a file for reading too, to see how it ends. Do not do so with a pipe: a missing reader must be noticed.
        access = os.O_RDWR if path.is_file() or not path.exists() else os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)
        try:
            fd = os.open(path, access | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.ENXIO, "nobody reads from this pipe") from None
            raise
        os.set_blocking(fd, True)
        return fd

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record as one line, its keys in the order given.

        Raises ValueError or TypeError, without writing anything, for values that JSON cannot hold (such as NaN and
        infinity). Raises GradfecError if the system does not take the whole line, and removes the part that it took.
        """
        if self._fd is None:
            raise ValueError("the results file is closed")
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # A file name that is not UTF-8 contains lone surrogates, which only an escape can express.
        line = ("\n" * self._torn + text + "\n").encode("utf-8", "backslashreplace")
        written = 0
        try:
            written = os.write(self._fd, line)
            if written < len(line):  # the disk is (almost) full: writing the rest gives the reason, or succeeds
                written += os.write(self._fd, line[written:])
            if written < len(line):
                raise OSError(errno.EIO, f"only {written} of {len(line)} bytes were written")
        except OSError as error:
            if written and not self._cut_off(written):
                self._torn = line[written - 1 : written] != b"\n"
            raise self._failure(error) from None
        self._torn = False
        self.count += 1

    def _cut_off(self, size: int) -> bool:
        """Remove the last `size` bytes if this process wrote them and can truncate the file; return whether it did."""
        if not self._regular or self._fd is None:
            return False
        with contextlib.suppress(OSError):
            end = os.lseek(self._fd, 0, os.SEEK_CUR)  # where our part of the line ends
            if end == os.fstat(self._fd).st_size:  # nobody else has appended since
                os.ftruncate(self._fd, end - size)
                os.lseek(self._fd, end - size, os.SEEK_SET)  # redirected output may not be in append mode
                return True
        return False

    def _failure(self, error: OSError) -> GradfecError:
        recorded = "1 result was" if self.count == 1 else f"{self.count} results were"
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        advice = f"free space, or choose another {self.option}" if full else f"choose another {self.option}"
        return GradfecError(
            f"cannot write results to {self._name}: {error.strerror or error}; {recorded} recorded before; {advice}"
        )

    def close(self) -> None:
        """Close the file, but not standard output. Closing twice is allowed."""
        fd, self._fd = self._fd, None
        if fd is None or self._to_stdout:
            return
        try:
            os.close(fd)
        except OSError as error:  # network file systems report a full disk here
            raise self._failure(error) from None

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _ends_within_a_line(fd: int) -> bool:
    """Return whether the file is not empty and its last byte is not a newline."""
    if os.fstat(fd).st_size == 0:
        return False
    os.lseek(fd, -1, os.SEEK_END)
    return os.read(fd, 1) != b"\n"
