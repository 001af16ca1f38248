"""Export: a network to TFLite, full int8 (one weight scale per channel) or float32."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryFile
from typing import Any

from monitor.arrays import F32


def to_tflite(network: Any, *, representative: F32 | None) -> bytes:
    """The bytes of a TFLite model: int8 in and out where representative inputs (k, n_in), dB, are given, else float32."""
    import tensorflow as tf

    converter: Any = tf.lite.TFLiteConverter.from_keras_model(network)
    if representative is not None:
        rows = representative.reshape(-1, 1, *network.input_shape[1:])

        def samples() -> Iterator[list[F32]]:
            for row in rows:
                yield [row]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with held_back(), redirect_stdout(io.StringIO()), warnings.catch_warnings():  # Keras prints its whole signature
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return bytes(converter.convert())


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back what the converter's C++ code writes to stderr, and show it only if the conversion fails."""
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            try:
                yield
            except BaseException:
                said.seek(0)
                os.write(stderr, said.read())
                raise
            finally:
                os.dup2(stderr, 2)
    finally:
        os.close(stderr)
