"""The only file that imports the TensorFlow Lite runtime: LiteRT, or tflite-runtime where LiteRT has no wheel."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F32, I8
from monitor.bundle.network import check_network
from monitor.bundle.quantisation import Quantisation
from monitor.errors import BundleError

try:
    # Only installed on 32-bit ARM or with the extra. It was built for NumPy 1.
    if not np.__version__.startswith("1."):
        raise ImportError
    from tflite_runtime.interpreter import Interpreter

    RUNTIME = "tflite-runtime"
except ImportError:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = "ai-edge-litert"


class TFLiteModel:
    """A TFLite model with one input and one output, int8 or float32, run on a fixed number of rows in a single thread.

    Shapes, types and scales are read from the model. BundleError if it could endanger the process (see `check_network`).
    """

    def __init__(self, content: bytes, *, n_rows: int) -> None:
        check_network(content)
        self._content = content
        self._interpreter = self._load()
        self._in, self._out = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self.input_shape = tuple(int(n) for n in self._in["shape"][1:])  # of a row
        self._batch = self._fix_rows(n_rows)
        self._quantise_in = _quantisation(self._in)
        self._quantise_out = _quantisation(self._out)
        self.n_in = int(np.prod(self._in["shape"][1:]))
        self.n_out = int(np.prod(self._out["shape"][1:]))

    def encode(self, frames: F32) -> F32 | I8:
        """Frames in dB as the network reads them, same shape."""
        return frames if self._quantise_in is None else self._quantise_in.quantise(frames)

    def predict(self, windows: NDArray[Any]) -> F32:
        """Turn windows (n_rows, n_in), in dB or of encoded frames, into predictions (n_rows, n_out), dB."""
        rows = self.encode(windows) if windows.dtype == np.float32 else windows
        parts = [self._invoke(rows[at : at + self._batch]) for at in range(0, len(rows), self._batch)]
        out = parts[0] if len(parts) == 1 else np.concatenate(parts)
        predicted: F32 = out if self._quantise_out is None else self._quantise_out.dequantise(out)
        return predicted

    def _invoke(self, rows: Any) -> Any:
        self._interpreter.set_tensor(self._in["index"], rows.reshape(self._batch, *self.input_shape))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._out["index"]).reshape(self._batch, -1)

    def _load(self) -> Any:
        try:
            with _quiet_stderr():
                interpreter = Interpreter(model_content=self._content, num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"model cannot be loaded: {_first_line(error)}") from error
        return interpreter

    def _fix_rows(self, n_rows: int) -> int:
        """Set the batch size: all rows at once, or one by one if the model's operators require a fixed batch."""
        for batch in (n_rows, 1):
            try:
                self._interpreter.resize_tensor_input(self._in["index"], [batch, *self._in["shape"][1:]])
                self._interpreter.allocate_tensors()
                self._interpreter.invoke()
            except (ValueError, RuntimeError) as error:
                refusal = error
                self._interpreter = self._load()  # tflite-runtime crashes if it goes on after a failure
                continue
            self._out = self._interpreter.get_output_details()[0]
            if self._out["shape"][0] == batch:
                return batch
            refusal = RuntimeError(f"{batch} rows in give {self._out['shape'][0]} rows out")
        raise BundleError(f"model cannot be run: {_first_line(refusal)}") from refusal


def _quantisation(tensor: dict[str, Any]) -> Quantisation | None:
    """The quantisation of an int8 tensor; None for float32."""
    scale, zero_point = tensor["quantization"]
    return None if tensor["dtype"] == np.float32 else Quantisation(np.float32(scale), int(zero_point))


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppress the runtime's messages on stderr. Failures also raise exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
