"""Export: a network to TFLite, full int8 (one weight scale per channel) or float32."""

import io
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

from monitor.arrays import F32
from train.networks.quiet import held_back


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
