"""Export: plain layers to TFLite, full int8 (one weight scale a channel) and float32."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

from monitor.core.arrays import F32
from train.networks import Layer, plain_network


def to_tflite(layers: list[Layer], *, representative: F32 | None) -> bytes:
    """The bytes of a TFLite model, int8 in and out where representative inputs (k, n_in), dB, are given, else float32."""
    import tensorflow as tf

    converter: Any = tf.lite.TFLiteConverter.from_keras_model(plain_network(layers))
    if representative is not None:
        rows = representative

        def samples() -> Iterator[list[F32]]:
            for row in rows:
                yield [row[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with redirect_stdout(io.StringIO()):  # Keras lists its whole signature
        return bytes(converter.convert())
