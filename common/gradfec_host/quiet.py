"""Keep the start-up notices of TensorFlow and LiteRT out of stderr, which is for the daemon's own log."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

# Set before the import: TensorFlow logs only errors, and Keras runs on TensorFlow whatever the user's keras.json says.
SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow or Keras inside this context: their output on stderr appears only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", SETTINGS["TF_CPP_MIN_LOG_LEVEL"])
    os.environ["KERAS_BACKEND"] = SETTINGS["KERAS_BACKEND"]
    with quiet_stderr():
        yield


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what is written to stderr inside this context, and show it only if an exception is raised.

    The notices come from C++ before its logging is configured, so no setting stops them. That is why file descriptor 2
    itself points elsewhere meanwhile. If TF_CPP_MIN_LOG_LEVEL is below 2, everything appears.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(stderr, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
