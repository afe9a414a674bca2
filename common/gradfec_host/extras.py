"""The packages that not every machine needs, and the extra of pyproject.toml that brings each."""

from __future__ import annotations

from importlib.util import find_spec

from gradfec_common.errors import UsageError

EXTRAS = {  # by module: the package's name, and its extra
    "aiohttp": ("aiohttp", "webhook"),
    "aiomqtt": ("aiomqtt", "mqtt"),
    "ai_edge_litert": ("LiteRT", "litert"),
    "h5py": ("h5py", "cloud"),
    "imageio_ffmpeg": ("imageio-ffmpeg", "rivals"),
    "keras": ("Keras", "lab"),
    "matplotlib": ("matplotlib", "lab"),
    "nicegui": ("NiceGUI", "web"),
    "onnx": ("ONNX", "models"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "ray": ("Ray", "ray"),
    "skimage": ("scikit-image", "demo"),
    "tensorflow": ("TensorFlow", "lab"),
    "uvicorn": ("uvicorn", "infer"),
    "zmq": ("pyzmq", "frigate"),
}


def missing(module: str) -> str:
    """Return one line that says what is not installed, and how to install it."""
    package, extra = EXTRAS[module]
    return f"{package} is not installed: pip install 'gradfec[{extra}]'"


def need(*modules: str) -> None:
    """Raise UsageError if one of the modules is not installed; imports nothing."""
    for module in modules:
        if find_spec(module) is None:
            raise UsageError(missing(module))
