"""A daemon's log on standard error: lines for people, or one JSON object a line. Each entry has an event's name.

It never contains a key: anything that looks like a key's token is removed from every line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TextIO

from gradfec_host import caught
from gradfec_host.wall_clock import local_time, rfc3339

TEXT, JSON = "text", "json"
LEVELS = ("debug", "info", "warning", "error")
TOKEN = re.compile("gradfec1-[a-z2-7]+", re.IGNORECASE)  # as gradfec_common.keys writes it, or part of one
DIGITS = re.compile("[0-9]+")
MOST_SAID = 1000  # lines of libraries that are remembered
SHOWN = 4  # items of a list in a line for people
TITLES = {"datagrams": "frames' datagrams", "answers_to_http": "answers to the page and its API"}  # of totals
IN_TOTALS = {  # of counts, where their own names are jargon
    "total": "in all",
    "sent": "in all",
    "parity": "of them parity",
    "symbol": "of frames",
    "symbol_failed": "of frames not taken by the kernel",
    "control": "of control messages",
    "control_failed": "of control messages not taken by the kernel",
    "kernel": "in a full receive buffer",
}
NAMES = {logging.CRITICAL: "error"}  # the error that ends the program is no worse than others

Totals = Mapping[str, Mapping[str, int]]


def printable(text: str) -> str:
    """Return untrusted text without characters that could move a terminal's cursor or start a line."""
    return "".join(character if character.isprintable() else " " for character in text)


def redacted(text: str) -> str:
    """Return a line without any keys, which somebody may have typed instead of a name."""
    return TOKEN.sub("gradfec1-***", text)


def in_words(settings: Mapping[str, object]) -> str:
    """Write settings as a part of a line, without those that are None, which are not set."""
    return ", ".join(f"{_plain(name)} {_word(value)}" for name, value in settings.items() if value is not None)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _word(value: object) -> str:
    match value:
        case []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return f"{len(value)}" if len(value) > SHOWN else " ".join(map(str, value))
    return str(value)


class Log:
    """A daemon's log: each entry has an event's name for programs, a sentence for people, and fields."""

    def __init__(self, program: str, camera: str = "") -> None:
        """Log for `program`, and for one `camera` if the daemon has several."""
        self.program, self._camera = program, camera
        self._logger = logging.getLogger(program)

    def of(self, camera: str) -> Log:
        """Return a log that names `camera` in each line."""
        return Log(self.program, camera)

    def debug(self, message: str, *, event: str, **fields: object) -> None:
        """Log what happens all the time."""
        self._say(logging.DEBUG, message, event, fields)

    def info(self, message: str, *, event: str, **fields: object) -> None:
        """Log normal operation."""
        self._say(logging.INFO, message, event, fields)

    def warning(self, message: str, *, event: str, **fields: object) -> None:
        """Log a problem that costs frames or protection while the daemon keeps running."""
        self._say(logging.WARNING, message, event, fields)

    def error(self, message: str, *, event: str, **fields: object) -> None:
        """Log a failure."""
        self._say(logging.ERROR, message, event, fields)

    def totals(self, totals: Totals) -> None:
        """Log the final counts: one line for each kind of which there are any, with its counts as fields."""
        for title, counts in totals.items():
            there = {name: count for name, count in counts.items() if count}
            text = ", ".join(f"{count} {IN_TOTALS.get(name, _plain(name))}" for name, count in there.items())
            if there and [*there] != ["total"]:  # which says nothing if all were sent and none was lost
                said = f"{TITLES.get(title, _plain(title))}: {text}"
                self.info(said, event="totals", of=title, counts=dict(counts))

    def _say(self, level: int, message: str, event: str, fields: Mapping[str, object]) -> None:
        of_camera = {"camera": self._camera} if self._camera else {}
        extra = {"event": event, "camera": self._camera, "fields": {**of_camera, **fields}}
        self._logger.log(level, message, extra=extra)


class TextFormatter(logging.Formatter):
    """The time, then `gradfec-edge: door: warning: ...`; in the line that ends the program, `error: ...`."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and after it a traceback if there is one."""
        message = printable(record.getMessage())
        if record.levelno < logging.CRITICAL:
            camera, level = getattr(record, "camera", ""), record.levelname.lower()
            grave = f"{level}: " if record.levelno >= logging.WARNING else ""
            message = f"{self._program}: {f'{printable(camera)}: ' if camera else ''}{grave}{message}"
        else:
            message = f"error: {message}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return redacted(f"{local_time(record.created)} {message}{trace}")


class JSONFormatter(logging.Formatter):
    """One object: time, level, daemon, event, message, then the event's fields."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of ASCII."""
        line: dict[str, object] = {
            "time": rfc3339(record.created),
            "level": NAMES.get(record.levelno, record.levelname.lower()),
            "daemon": self._program,
            "event": getattr(record, "event", record.name),  # for a library, its logger's name
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, default=str))


class StandardError(logging.Handler):
    """Writes lines to standard error, above the live status if there is one."""

    def __init__(self, program: str, form: str, level: str) -> None:
        """Write entries of `level` and above in the format `form`, text or json."""
        super().__init__(level.upper())
        self.program, self.form = program, form
        self.stream, self._own = _standard_error()
        self._before: TextIO | None = None  # sys.stderr
        self.above: Callable[[str], object] | None = None  # prints a line above the live status
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()  # what libraries have written, oldest first
        self.setFormatter(JSONFormatter(program) if form == JSON else TextFormatter(program))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry; go on if standard error is closed."""
        try:
            line = self.format(record)
            if above := self.above:  # read once: another thread may set it to None
                above(line)
            else:
                self.stream.write(line + "\n")
                self.stream.flush()
        except Exception:
            self.handleError(record)

    def catch_libraries(self) -> None:
        """Log what libraries write to standard error, and let Python write to where this log goes."""
        if not self._own:
            return
        caught.begin(self._library_wrote)
        if self.form == TEXT:
            self._before, sys.stderr = sys.stderr, self.stream

    def _library_wrote(self, line: caught.Line) -> None:
        """Log a line of a library, once for each file. Lines that differ only in numbers count as one."""
        what = line.files, DIGITS.sub("0", line.text)
        if what in self._said:
            return
        self._said[what] = None
        if len(self._said) > MOST_SAID:
            self._said.popitem(last=False)
        extra = {"event": "library", "fields": {"file": line.files} if line.files else {}}
        level = logging.DEBUG if line.quiet else logging.WARNING
        logging.getLogger(self.program).log(level, f"{line.files or 'a library'}: {line.text}", extra=extra)

    def close(self) -> None:
        """Close the stream."""
        if self._before:
            sys.stderr, self._before = self._before, None
        super().close()
        if self._own:
            with contextlib.suppress(OSError):
                self.stream.close()


def _standard_error() -> tuple[TextIO, bool]:
    """Return standard error, and whether it has its own descriptor, which is not caught."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace"), True
    except (OSError, ValueError, AttributeError):  # in a test
        return sys.stderr, False


_at_work: list[StandardError] = []  # the handler in use, if any


def handler() -> StandardError | None:
    """Return the handler that writes the log, after `configure`."""
    return _at_work[-1] if _at_work else None


def configure(program: str, form: str = TEXT, level: str = "info") -> Log:
    """Write the log and the warnings of libraries to standard error from now on, until `close`."""
    close()
    new = StandardError(program, form, level)
    _at_work.append(new)
    logging.getLogger().addHandler(new)
    logging.getLogger(program).setLevel(level.upper())
    logging.captureWarnings(capture=True)
    new.catch_libraries()
    return Log(program)


def close() -> None:
    """Undo `configure`."""
    logging.captureWarnings(capture=False)
    caught.end()
    while _at_work:
        logging.getLogger().removeHandler(_at_work[-1])
        _at_work.pop().close()


def say(event: str, message: str) -> None:
    """Log an entry from code that daemons and other commands share; without a log, print a plain line."""
    _speak(logging.INFO, event, message, message)


def fail(message: str, error: BaseException | None = None) -> None:
    """Log why the program ends, at any level; with the traceback of `error`, which is a bug of ours."""
    caught.flush()
    _speak(logging.CRITICAL, "crashed" if error else "failed", message, f"error: {message}", error)


def _speak(level: int, event: str, message: str, plain: str, error: BaseException | None = None) -> None:
    if (found := handler()) is None:
        print(redacted(printable(plain)), file=sys.stderr, flush=True)
    else:
        logging.getLogger(found.program).log(level, message, extra={"event": event}, exc_info=error)
