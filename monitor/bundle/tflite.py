"""Read the tables of a .tflite file. Every offset and length is checked, because runtimes trust them.

The schema is TensorFlow's (tensorflow/compiler/mlir/lite/schema/schema.fbs), limited to the fields that the
model of a bundle may have. The encoding is FlatBuffers' (https://flatbuffers.dev/internals).
"""

import struct
from typing import Any, TypeAlias

import numpy as np

from monitor.errors import BundleError

MAX_TABLES = 8192
MAX_VALUES = 1 << 22  # of all vectors, except the content of buffers
_BYTES, _TEXT = "bytes", "text"
# The fields of a table by name: number, kind and default. A kind is a format of `struct`, text, bytes, another table, or a
# list with the kind of a vector's elements.
Fields: TypeAlias = dict[str, tuple[int, Any, Any]]

_ACTIVATION = ("fused_activation_function", "b", 0)


def _options(*fields: tuple[str, str, Any], first: int = 0) -> Fields:
    return {name: (number, kind, default) for number, (name, kind, default) in enumerate(fields, first)}


_CONV_STRIDES = (("padding", "b", 0), ("stride_w", "i", 0), ("stride_h", "i", 0))
_DILATION = (("dilation_w", "i", 1), ("dilation_h", "i", 1))
_BIAS_TYPE = ("quantized_bias_type", "b", 0)
_CORNERS = (("align_corners", "?", False), ("half_pixel_centers", "?", False))
OPTIONS: dict[int, Fields] = {
    1: _options(*_CONV_STRIDES, _ACTIVATION, *_DILATION, _BIAS_TYPE),  # Conv2DOptions
    2: _options(*_CONV_STRIDES, ("depth_multiplier", "i", 0), _ACTIVATION, *_DILATION),  # DepthwiseConv2DOptions
    5: _options(*_CONV_STRIDES, ("filter_w", "i", 0), ("filter_h", "i", 0), _ACTIVATION),  # Pool2DOptions
    8: _options(  # FullyConnectedOptions
        _ACTIVATION,
        ("weights_format", "b", 0),
        ("keep_num_dims", "?", False),
        ("asymmetric_quantize_inputs", "?", False),
        _BIAS_TYPE,
    ),
    11: _options(_ACTIVATION, ("pot_scale_int16", "?", True)),  # AddOptions
    15: _options(*_CORNERS, first=2),  # ResizeBilinearOptions
    17: {"new_shape": (0, ["i"], ())},  # ReshapeOptions
    21: _options(_ACTIVATION),  # MulOptions
    28: _options(_ACTIVATION, ("pot_scale_int16", "?", True)),  # SubOptions
    32: _options(  # StridedSliceOptions
        *((f"{name}_mask", "i", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")), ("offset", "?", False)
    ),
    38: {},  # DequantizeOptions
    49: _options(*_CONV_STRIDES, _ACTIVATION, _BIAS_TYPE),  # TransposeConvOptions
    55: _options(("out_type", "b", 0)),  # ShapeOptions
    59: _options(("values_count", "i", 0), ("axis", "i", 0)),  # PackOptions
    74: _options(*_CORNERS),  # ResizeNearestNeighborOptions
    75: _options(("alpha", "f", 0.0)),  # LeakyReluOptions
    89: {},  # QuantizeOptions
}
_QUANTISATION: Fields = {
    "min": (0, ["f"], ()),
    "max": (1, ["f"], ()),
    "scale": (2, ["f"], ()),
    "zero_point": (3, ["q"], ()),
    "quantized_dimension": (6, "i", 0),
}
_TENSOR: Fields = {
    "shape": (0, ["i"], ()),
    "type": (1, "b", 0),
    "buffer": (2, "I", 0),
    "name": (3, _TEXT, None),
    "quantization": (4, _QUANTISATION, None),
    "shape_signature": (7, ["i"], ()),
    "has_rank": (8, "?", False),
}
_OPERATOR: Fields = {
    "opcode_index": (0, "I", 0),
    "inputs": (1, ["i"], ()),
    "outputs": (2, ["i"], ()),
    "options_type": (3, "B", 0),
    "options": (4, "options", None),
    "debug_metadata_index": (13, "i", -1),
}
_TENSOR_MAP: Fields = {"name": (0, _TEXT, None), "tensor_index": (1, "I", 0)}
_MODEL: Fields = {
    "version": (0, "I", 0),
    "operator_codes": (
        1,
        [
            {
                "deprecated_builtin_code": (0, "b", 0),
                "custom_code": (1, _TEXT, None),
                "version": (2, "i", 1),
                "builtin_code": (3, "i", 0),
            }
        ],
        (),
    ),
    "subgraphs": (
        2,
        [
            {
                "tensors": (0, [_TENSOR], ()),
                "inputs": (1, ["i"], ()),
                "outputs": (2, ["i"], ()),
                "operators": (3, [_OPERATOR], ()),
                "name": (4, _TEXT, None),
                "debug_metadata_index": (5, "i", -1),
            }
        ],
        (),
    ),
    "description": (3, _TEXT, None),
    "buffers": (4, [{"data": (0, _BYTES, b"")}], ()),
    "metadata": (6, [{"name": (0, _TEXT, None), "buffer": (1, "I", 0)}], ()),
    "signature_defs": (
        7,
        [
            {
                "inputs": (0, [_TENSOR_MAP], ()),
                "outputs": (1, [_TENSOR_MAP], ()),
                "signature_key": (2, _TEXT, None),
                "subgraph_index": (4, "I", 0),
            }
        ],
        (),
    ),
}


def read_tables(content: bytes) -> dict[str, Any]:
    """The tables of a model as dictionaries, vectors of numbers as arrays, and buffers as views of the content."""
    if content[4:8] != b"TFL3":
        raise BundleError("model cannot be loaded: it is not a TFLite file")
    try:
        return _Reader(content).table(_MODEL, 0)
    except (struct.error, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"model cannot be loaded: it is damaged ({error})") from error


class _Reader:
    """Reads values at positions in the content. All raise ValueError or struct.error at a position that cannot be."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._n_tables = self._n_values = 0

    def table(self, fields: Fields, reference: int) -> dict[str, Any]:
        """The table that the offset at `reference` leads to."""
        self._n_tables += 1
        if self._n_tables > MAX_TABLES:
            raise ValueError(f"more than {MAX_TABLES} tables")
        at = self._follow(reference)
        offsets = at - self._number("i", at)
        n_offsets, size = self._number("H", offsets), self._number("H", offsets + 2)
        if n_offsets < 4 or n_offsets % 2 or offsets + n_offsets > len(self._content) or at + size > len(self._content):
            raise ValueError(f"a table of {size} bytes at {at}")
        filled = {(slot - 4) // 2: self._number("H", offsets + slot) for slot in range(4, n_offsets, 2)}
        filled = {number: offset for number, offset in filled.items() if offset}
        if unknown := filled.keys() - {number for number, _, _ in fields.values()}:
            raise ValueError(f"unsupported field {min(unknown)} in a table with {', '.join(fields) or 'no fields'}")
        values: dict[str, Any] = {}
        for name, (number, kind, default) in fields.items():
            if kind == "options":
                kind = OPTIONS.get(values["options_type"])
            if number not in filled or kind is None:
                values[name] = default
            elif filled[number] + (struct.calcsize(kind) if kind in ("b", "B", "?", "i", "I", "f") else 4) > size:
                raise ValueError(f"{name} outside its table")
            else:
                values[name] = self._value(kind, at + filled[number])
        return values

    def _value(self, kind: Any, at: int) -> Any:
        if isinstance(kind, dict):
            return self.table(kind, at)
        if isinstance(kind, list):
            return self._vector(kind[0], at)
        if kind == _BYTES:
            start, n = self._span(at, 1)
            return self._content[start : start + n]
        if kind == _TEXT:
            start, n = self._span(at, 1)
            if self._number("B", start + n) != 0:
                raise ValueError(f"a text without an end at {start}")
            return bytes(self._content[start : start + n]).decode("utf-8", "replace")
        return self._number(kind, at)

    def _vector(self, kind: Any, at: int) -> Any:
        if isinstance(kind, dict):
            start, n = self._span(at, 4)
            return [self.table(kind, start + 4 * i) for i in range(n)]
        start, n = self._span(at, struct.calcsize(kind))
        self._n_values += n
        if self._n_values > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} numbers")
        return np.frombuffer(self._content, f"<{kind}{struct.calcsize(kind)}".replace("q8", "i8"), n, start)

    def _span(self, reference: int, size: int) -> tuple[int, int]:
        """The position of the first element of a vector, and their number."""
        at = self._follow(reference)
        n = self._number("I", at)
        if at + 4 + n * size > len(self._content) or (at + 4) % size:
            raise ValueError(f"a vector of {n} elements at {at}")
        return at + 4, n

    def _follow(self, reference: int) -> int:
        return reference + int(self._number("I", reference))

    def _number(self, kind: str, at: int) -> Any:
        if at < 0 or at % struct.calcsize(kind):
            raise ValueError(f"a value at {at}")
        return struct.unpack_from(f"<{kind}", self._content, at)[0]
