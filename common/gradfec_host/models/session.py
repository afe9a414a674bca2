"""ONNX Runtime, which runs imported networks. The only module that imports it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnxruntime

from gradfec_common.errors import GradfecError
from gradfec_host.quiet import quiet_stderr
from gradfec_host.runtimes import cores

Floats = npt.NDArray[np.float32]
Shape = tuple[int, int, int]  # (H, W, C)
ERRORS_ONLY = 3


class OnnxSession:
    """A graph, ready to run."""

    def __init__(self, model: bytes, name: str, outputs: Sequence[str] = ()) -> None:
        """Load an ONNX file; GradfecError, which calls it `name`, if the runtime cannot.

        Of its outputs, `outputs` are computed, all if there are none.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the codes' threads need the cores
        try:
            with quiet_stderr():
                self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, none of them documented
            raise GradfecError(f"ONNX Runtime cannot run {name}: {_in_one_line(error)}") from None
        self._outputs = [*outputs] or None
        self.inputs = [one.name for one in self._session.get_inputs()]

    def __call__(self, *tensors: Floats) -> list[Floats]:
        """Return the outputs for the inputs, in the order that was asked for, or in the file's."""
        found: list[Floats] = self._session.run(self._outputs, dict(zip(self.inputs, tensors, strict=True)))
        return found


class OnnxStep:
    """A graph with one input and one output, (1, C, H, W) both, for tensors (H, W, C)."""

    def __init__(self, model: bytes, name: str, takes: Shape, gives: Shape) -> None:
        """Load an ONNX file; GradfecError, which calls it `name`, if it cannot be run, or is for other shapes."""
        self._run = OnnxSession(model, name)
        try:
            found = self(np.zeros(takes, np.float32)).shape
        except Exception as error:
            raise GradfecError(f"ONNX Runtime cannot run {name}: {_in_one_line(error)}") from None
        if found != gives:
            raise GradfecError(f"{name} makes {found} of {takes}, not {gives}: it is damaged, train it again")

    def __call__(self, tensor: Floats) -> Floats:
        """Return what it makes of a tensor."""
        (made,) = self._run(np.ascontiguousarray(tensor.transpose(2, 0, 1))[np.newaxis])
        return np.ascontiguousarray(made[0].transpose(1, 2, 0))


def run_once(model: bytes, name: str, tensors: Sequence[Floats]) -> list[Floats]:
    """Load a graph, run it once, and return all outputs; GradfecError if it cannot run."""
    session = OnnxSession(model, name)
    try:
        return session(*tensors)
    except Exception as error:
        raise GradfecError(f"ONNX Runtime cannot run {name}: {_in_one_line(error)}") from None


def folded(model: bytes, name: str) -> bytes:
    """Return a graph without what depends on constants and shapes alone; GradfecError if it cannot run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # ONNX's own operators only
    with TemporaryDirectory() as folder, quiet_stderr():
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            return Path(options.optimized_model_filepath).read_bytes()
        except Exception as error:  # of many kinds, none of them documented
            raise GradfecError(f"ONNX Runtime cannot run {name}: {_in_one_line(error)}") from None


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(": ", 2)[-1][:300]
