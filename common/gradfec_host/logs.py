"""What a daemon says on standard error: a line for people, or one JSON object a line; each thing under an event's name.

No key can be in it: what looks like a key's token is struck out of every line, whoever said it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TextIO

TEXT, JSON = "text", "json"
LEVELS = ("debug", "info", "warning", "error")
TOKEN = re.compile("gradfec1-[a-z2-7]+", re.IGNORECASE)  # as gradfec_common.keys writes it, and half of one, too
SHOWN = 4  # of a list, in a line for people
NAMES = {logging.CRITICAL: "error"}  # the last error is not graver than others; it only ends the program

Totals = Mapping[str, Mapping[str, int]]


def printable(text: str) -> str:
    """Return somebody else's words without what could move a terminal's cursor or begin a line."""
    return "".join(character if character.isprintable() else " " for character in text)


def redacted(text: str) -> str:
    """Return a line without the keys that somebody may have put where a name belongs."""
    return TOKEN.sub("gradfec1-***", text)


def in_words(settings: Mapping[str, object]) -> str:
    """Write settings as one line of text."""
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in settings.items())


def _word(value: object) -> str:
    match value:
        case None | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return f"{len(value)}" if len(value) > SHOWN else " ".join(map(str, value))
    return str(value)


class Log:
    """A daemon's voice: each thing said has an event's name for programs, a sentence for people, and fields."""

    def __init__(self, program: str, camera: str = "") -> None:
        """Speak as `program`; of one `camera`, where the daemon has several."""
        self.program, self._camera = program, camera
        self._logger = logging.getLogger(program)

    def of(self, camera: str) -> Log:
        """Return one that says in each line which camera it speaks of."""
        return Log(self.program, camera)

    def debug(self, message: str, *, event: str, **fields: object) -> None:
        """Say what happens all the time."""
        self._say(logging.DEBUG, message, event, fields)

    def info(self, message: str, *, event: str, **fields: object) -> None:
        """Say what is as it should be."""
        self._say(logging.INFO, message, event, fields)

    def warning(self, message: str, *, event: str, **fields: object) -> None:
        """Say what costs frames or protection, or will, though the daemon goes on."""
        self._say(logging.WARNING, message, event, fields)

    def error(self, message: str, *, event: str, **fields: object) -> None:
        """Say what could not be done."""
        self._say(logging.ERROR, message, event, fields)

    def totals(self, totals: Totals) -> None:
        """Say the last words: a line for each kind of thing that was counted, with its counts as fields."""
        for title, counts in totals.items():
            text = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
            line = f"{title.replace('_', ' ')}: {text or 'none'}"
            self.info(line, event="totals", of=title, counts=dict(counts))

    def _say(self, level: int, message: str, event: str, fields: Mapping[str, object]) -> None:
        of_camera = {"camera": self._camera} if self._camera else {}
        extra = {"event": event, "camera": self._camera, "fields": {**of_camera, **fields}}
        self._logger.log(level, message, extra=extra)


class TextFormatter(logging.Formatter):
    """`gradfec-edge: door: warning: ...`; the line that ends the program is `error: ...`."""

    def __init__(self, program: str) -> None:
        """Write `program` before the lines of libraries, too."""
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, but for a traceback after it."""
        message = printable(record.getMessage())
        if record.levelno < logging.CRITICAL:
            camera, level = getattr(record, "camera", ""), record.levelname.lower()
            grave = f"{level}: " if record.levelno >= logging.WARNING else ""
            message = f"{self._program}: {f'{printable(camera)}: ' if camera else ''}{grave}{message}"
        else:
            message = f"error: {message}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return redacted(message + trace)


class JSONFormatter(logging.Formatter):
    """One object: time, level, daemon, event, message, then the event's fields."""

    def __init__(self, program: str) -> None:
        """Name `program` as the daemon in each object."""
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of ASCII, whatever is in it."""
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),  # RFC 3339
            "level": NAMES.get(record.levelno, record.levelname.lower()),
            "daemon": self._program,
            "event": getattr(record, "event", record.name),  # a library's: its logger
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, default=str))


class StandardError(logging.Handler):
    """Writes lines to standard error, above the live status where there is one."""

    def __init__(self, program: str, form: str, level: str) -> None:
        """Write as `text` or `json` what is at least of `level`."""
        super().__init__(level.upper())
        self.program, self.form = program, form
        self.stream, self._own = _standard_error()
        self.above: Callable[[str], object] | None = None  # prints a line above the live status
        self.setFormatter(JSONFormatter(program) if form == JSON else TextFormatter(program))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a standard error that is gone ends nothing."""
        try:
            line = self.format(record)
            if above := self.above:  # which another thread may take away
                above(line)
            else:
                self.stream.write(line + "\n")
                self.stream.flush()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Let go of the stream."""
        super().close()
        if self._own:
            with contextlib.suppress(OSError):
                self.stream.close()


def _standard_error() -> tuple[TextIO, bool]:
    """Return standard error through a descriptor of its own, for `quiet_stderr` turns the other aside; and if it is."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="backslashreplace"), True
    except (OSError, ValueError, AttributeError):  # a test's
        return sys.stderr, False


_at_work: list[StandardError] = []  # the one in use, if any


def handler() -> StandardError | None:
    """Return what writes the log, once `configure` has been called."""
    return _at_work[-1] if _at_work else None


def configure(program: str, form: str = TEXT, level: str = "info") -> Log:
    """Send what is logged to standard error from now on, and what libraries warn of; `close` ends it."""
    close()
    new = StandardError(program, form, level)
    _at_work.append(new)
    logging.getLogger().addHandler(new)
    logging.getLogger(program).setLevel(level.upper())
    logging.captureWarnings(capture=True)
    return Log(program)


def close() -> None:
    """Undo `configure`."""
    logging.captureWarnings(capture=False)
    while _at_work:
        logging.getLogger().removeHandler(_at_work[-1])
        _at_work.pop().close()


def say(event: str, message: str) -> None:
    """Say something of a part that daemons and other commands share: as a log line, or as a plain one."""
    _speak(logging.INFO, event, message, message)


def fail(message: str, error: BaseException | None = None) -> None:
    """Say why the program ends, whatever the level; with the traceback of an `error` that is our own fault."""
    _speak(logging.CRITICAL, "crashed" if error else "failed", message, f"error: {message}", error)


def _speak(level: int, event: str, message: str, plain: str, error: BaseException | None = None) -> None:
    if (found := handler()) is None:
        print(redacted(plain), file=sys.stderr, flush=True)
    else:
        logging.getLogger(found.program).log(level, message, extra={"event": event}, exc_info=error)
