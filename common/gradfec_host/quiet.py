"""Keep the notices of TensorFlow, LiteRT and OpenCV out of stderr, which is for the daemon's own log."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator

from gradfec_host.caught import notices

MOST_LINES = 1000

# Set before the import: TensorFlow logs only errors, and Keras runs on TensorFlow whatever the user's keras.json says.
SETTINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow or Keras inside this context: their output on stderr appears only if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", SETTINGS["TF_CPP_MIN_LOG_LEVEL"])
    os.environ["KERAS_BACKEND"] = SETTINGS["KERAS_BACKEND"]
    with quiet_stderr():
        yield


def quiet_opencv() -> None:
    """Let OpenCV print nothing about damaged pictures, unless OPENCV_LOG_LEVEL is set: its results say enough."""
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what is written to stderr inside this context, and show it only if an exception is raised.

    The notices come from C++ before its logging is configured, so no setting stops them. In a daemon they are entries
    of the log for whoever debugs. If TF_CPP_MIN_LOG_LEVEL is below 2, everything appears.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    held: deque[str] = deque(maxlen=MOST_LINES)
    try:
        with notices(lambda line: held.append(line.text)):
            yield
    except Exception:
        for text in held:
            print(text, file=sys.stderr)
        raise
