"""Where frames come from: a camera or a stream (newest frame only), a video file, an image, a folder of images."""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from gradfec_common.errors import GradfecError, UsageError
from gradfec_edge.finite_source import FiniteSource
from gradfec_edge.frames import (
    MAX_IMAGE_PIXELS,
    Capture,
    Frame,
    Image,
    Opener,
    Source,
    Warn,
    as_bgr,
    too_large,
)
from gradfec_edge.live_camera import LiveCamera, interval_of
from gradfec_host.caught import reading
from gradfec_host.quiet import quiet_opencv

MAX_IMAGE_FILE_BYTES = 8 * MAX_IMAGE_PIXELS  # the largest honest file: uncompressed 16-bit RGBA

# OpenCV reads these once: the pixel limit when it is loaded, FFmpeg's log level at the first stream. Without them
# a damaged file allocates first, and every retry of a camera prints OpenCV's own lines beside our one warning.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_IMAGE_PIXELS))
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
import cv2  # noqa: E402

quiet_opencv()

__all__ = ["Frame", "Source", "open_source"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp"})
STREAM_OPEN_TIMEOUT_MS, STREAM_READ_TIMEOUT_MS = 10_000, 5_000

_CAMERA_PATH = re.compile(r"/dev/(video[0-9]+|v4l/.+)")
_VIDEO4LINUX_MAJOR = 81


def open_capture(target: int | str) -> Capture:
    """Open a camera by number or device path, or a stream or video file through FFmpeg."""
    if isinstance(target, int):
        return cv2.VideoCapture(target)
    if _CAMERA_PATH.fullmatch(target) or Path(target).is_char_device():
        return cv2.VideoCapture(target, cv2.CAP_V4L2)
    if cv2.CAP_FFMPEG not in cv2.videoio_registry.getStreamBackends():  # a distribution's own build of OpenCV
        return cv2.VideoCapture(target)
    open_ms = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_OPEN_TIMEOUT_MS]
    read_ms = [cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_READ_TIMEOUT_MS]
    return cv2.VideoCapture(target, cv2.CAP_FFMPEG, open_ms + read_ms)


def _warn_on_stderr(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def open_source(
    src: str,
    *,
    loop: bool = False,
    fps: float | None = None,
    warn: Warn = _warn_on_stderr,
    open_capture: Opener = open_capture,
    sleep: Callable[[float], object] | None = None,
) -> Source:
    """Open `src`: a device, a camera's number, a stream's URL, a video file, an image, or a folder of images.

    `warn` takes one line and is called from other threads; `open_capture` and `sleep` (the wait between two
    attempts to open a camera) are there for tests. Raises UsageError for what cannot be a source, GradfecError
    for a source that cannot be read.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UsageError(f"--fps {fps:g} is not a frame rate: use a number above 0, for example 5")
    target = _live_target(src)
    if target is not None:
        if loop:
            warn(f"--loop has no effect: {without_password(src)} is a camera and does not end")
        return LiveCamera(target, without_password(src), fps=fps, warn=warn, open_capture=open_capture, sleep=sleep)
    path = Path(src).expanduser()
    if path.is_dir():
        return ImageFiles(_images_in(path), src, loop, fps, warn)
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise GradfecError(f"cannot read {src}: {error.strerror}") from None
    if empty:
        raise GradfecError(f"{src} is empty")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles([path], src, loop, fps, warn)
    # OpenCV crashes on a name that is not UTF-8, which Python holds as lone surrogates.
    if re.search("[\ud800-\udfff]", str(path.absolute())):
        raise GradfecError(f"{src!r} has a name that is not UTF-8, which OpenCV does not take: rename it")
    if path.suffix.lower() != ".gif" and cv2.haveImageReader(str(path)):
        return ImageFiles([path], src, loop, fps, warn)
    return VideoFile(path, src, loop, fps, warn, open_capture=open_capture)


def without_password(src: str) -> str:
    """Hide the passwords of a URL, because names of sources go to logs and results."""
    src = re.sub(r"(://[^/:]*):[^/]*@", r"\1:***@", src)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|token|auth|secret|key)[^=&]*)=[^&]*", r"\1=***", src)


def _live_target(src: str) -> int | str | None:
    """Return what open_capture takes for a camera or stream, None for a file or folder that exists."""
    shown = without_password(src)
    if not src:
        raise UsageError("the source is empty: give a device, a camera's number, a file, a folder or an RTSP URL")
    if re.fullmatch(r"[0-9]{1,4}", src):
        return int(src)
    if "://" in src:
        try:
            url = urlsplit(src)
            if url.scheme in STREAM_SCHEMES and url.hostname:
                return src
        except ValueError:  # an unfinished IPv6 address
            pass
        raise UsageError(f"{shown} is not the URL of a stream: use for example rtsp://HOST/PATH or http://HOST/PATH")
    try:
        status = Path(src).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        if _CAMERA_PATH.fullmatch(src):
            return src  # it may be plugged in later
        raise UsageError(
            f"{src!r} does not exist: give a device, a camera's number, a file, a folder or an RTSP URL"
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise GradfecError(f"cannot read {src!r}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return None
    if stat.S_ISCHR(status.st_mode) and (_CAMERA_PATH.fullmatch(src) or os.major(status.st_rdev) == _VIDEO4LINUX_MAJOR):
        return src
    raise UsageError(f"{src} is neither a camera nor a file nor a folder")


def _images_in(folder: Path) -> list[Path]:
    """List the images of a folder by name; hidden files, folders and other kinds of files are left out."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise GradfecError(f"cannot read the folder {folder}: {error.strerror}") from None
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()]
    if not images:
        kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise UsageError(f"the folder {folder} has no images ({kinds})")
    return images


def read_image(path: Path) -> Image:
    """Read one image file as BGR, (h, w, 3) uint8, whatever its depth and channels.

    Raises GradfecError with a line that names the file when it cannot be.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise GradfecError(f"{path} is not a file")
        if status.st_size == 0:
            raise GradfecError(f"{path} is empty")
        if status.st_size > MAX_IMAGE_FILE_BYTES:
            raise GradfecError(f"{path} is too large: more than {MAX_IMAGE_FILE_BYTES // 10**6} MB")
        with reading(path.name):
            image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise GradfecError(f"cannot read {path}: {error.strerror}") from None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise GradfecError(too_large(path)) from None
        image = None
    if image is None:
        raise GradfecError(f"{path} is not an image that can be read: damaged, or another kind of file")
    return as_bgr(image, path)


class ImageFiles(FiniteSource):
    """One image, or a folder's images in the order of their names; in a folder, other files are skipped."""

    def __init__(self, paths: list[Path], name: str, loop: bool, fps: float | None, warn: Warn) -> None:
        """Take the paths in the order given."""
        self._paths, self._count = paths, len(paths)
        super().__init__(name, loop, fps, warn)

    def _one_pass(self) -> Iterator[tuple[str, Image]]:
        readable = []
        for path in self._paths:
            try:
                image = read_image(path)
            except GradfecError as error:
                if self._count == 1:
                    raise
                self.skipped += 1
                self._warn(f"skipped: {error}")
                continue
            readable.append(path)
            yield path.name, image
        self._paths = readable  # with --loop, each file is skipped, and warned of, once

    def _nothing(self) -> str:
        return f"none of the {self._count} images of {self.name} can be read"


class VideoFile(FiniteSource):
    """Every frame of a video file, as fast as they are taken, or at `fps`."""

    def __init__(
        self, path: Path, name: str, loop: bool, fps: float | None, warn: Warn, *, open_capture: Opener
    ) -> None:
        """Open the file."""
        self._path, self._open_capture = path, open_capture
        super().__init__(name, loop, fps, warn)

    def _one_pass(self) -> Iterator[tuple[str, Image]]:
        # Absolute, because FFmpeg takes "a:b.mp4" for a protocol and "-" for its standard input.
        capture = self._open_capture(str(self._path.absolute()))
        number = 0
        try:
            if not capture.isOpened():
                raise GradfecError(self._nothing())
            self.interval = self._pace.interval or interval_of(capture)
            while True:
                with reading(self.name):
                    ok, image = capture.read()
                if not ok or image is None:
                    return
                number += 1
                yield f"{self._path.name}#{number}", as_bgr(image, self.name)
        except cv2.error as error:
            self._warn(f"{self.name} ends after frame {number}, where it cannot be decoded: {error.err}")
        finally:
            capture.release()

    def _nothing(self) -> str:
        return f"{self.name} is neither an image nor a video that can be read: damaged, or another kind of file"
