"""Check a model before a runtime sees it. A crash in native code could not be caught, so only what is known to be safe passes.

The graph must be one chain of supported operators whose shapes, types, indices and buffers agree. Each operator's output shape
is computed here and compared with the declared one, which also gives the cost of the model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from monitor.bundle.tflite import read_tables
from monitor.errors import BundleError

F32, F16, I32, UINT8, I64, I8 = 0, 1, 2, 3, 4, 9
_TYPES = {F32: "float32", F16: "float16", I32: "int32", UINT8: "uint8", I64: "int64", I8: "int8"}
_DTYPES = {F32: "<f4", F16: "<f2", I32: "<i4", I64: "<i8", I8: "<i1"}
MAX_SIDE = 1 << 24  # of a tensor
MAX_RANK = 5
SCALES = (1e-30, 1e6)
MAX_RATIO = 2.0**8  # of an operator's scales: runtimes shift by as many bits, and some abort
_METADATA = ("min_runtime_version", "reduced_precision_support", "CONVERSION_METADATA", "TFLITE_METADATA")
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """The cost of a checked model."""

    weight_bytes: int
    row_bytes: int  # of all intermediate results, for one row
    row_macs: int  # multiply-accumulates, for one row


@dataclass
class _Tensor:
    type: int
    shape: Shape
    data: Any  # an array (shape) of a constant, or None
    scale: Any
    known: bool  # it has been computed, or is a constant
    fixed: bool  # it does not depend on the input
    value: tuple[int, ...] | None = None  # of integers, if known

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass
class _Operator:
    name: str
    inputs: list[_Tensor | None]
    output: _Tensor
    options: Mapping[str, Any]
    macs: int = 0
    scratch: int = 0  # values

    def require(self, condition: bool, problem: str) -> None:
        if not condition:
            raise BundleError(f"model cannot be loaded: {self.name} {problem}")

    def input(self, number: int) -> _Tensor:
        tensor = self.inputs[number]
        if tensor is None:
            raise BundleError(f"model cannot be loaded: {self.name} has no input {number}")
        return tensor

    def ints(self, number: int, *, n: int | None = None) -> tuple[int, ...]:
        """The values of an input that holds shapes or indices."""
        value = self.input(number).value
        if value is None or (n is not None and len(value) != n):
            raise BundleError(f"model cannot be loaded: input {number} of {self.name} must be {n or 'known'} integers")
        return value


Rule: TypeAlias = Callable[[_Operator], Shape]


def check_network(content: bytes) -> Network:
    """Check the content of a .tflite file; BundleError names the first problem."""
    model = read_tables(content)
    _require(model["version"] == 3 and len(model["subgraphs"]) == 1, "it must have one graph of version 3")
    graph, buffers = model["subgraphs"][0], model["buffers"]
    _require(len(buffers) > 0 and len(buffers[0]["data"]) == 0, "its first buffer must be empty")
    _check_metadata(model, n_tensors=len(graph["tensors"]))
    tensors = [_tensor(number, one, buffers) for number, one in enumerate(graph["tensors"])]
    ends = [graph["inputs"], graph["outputs"]]
    if any(len(end) != 1 for end in ends):
        raise BundleError(f"model must have 1 input and 1 output, got {len(ends[0])} and {len(ends[1])}")
    first, last = (_at(tensors, int(end[0])) for end in ends)
    for tensor, which in ((first, "input"), (last, "output")):
        if tensor.type not in (F32, I8):
            raise BundleError(f"model's {which} must be float32 or quantised int8, got {_TYPES[tensor.type]}")
        _require(len(tensor.shape) > 1 and not tensor.known, f"its {which} must have a row or more, and no content")
    first.known = True
    _require(len(graph["operators"]) > 0, "it has no operators")
    macs = scratch = unpacked = 0
    for table in graph["operators"]:
        operator = _operator(table, model["operator_codes"], tensors)
        macs += operator.macs
        scratch += operator.scratch + (0 if operator.output.fixed else operator.output.size)
        unpacked += operator.output.size if operator.output.fixed else 0
    _require(last.known and not last.fixed and last.shape[0] == first.shape[0], "its output must depend on its input, row by row")
    rows = first.shape[0]
    weight_bytes = sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None)
    return Network(weight_bytes + 4 * unpacked, 4 * (scratch + first.size) // rows, macs // rows)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise BundleError(f"model cannot be loaded: {problem}")


def _at(items: Sequence[Any], index: int) -> Any:
    _require(0 <= index < len(items), f"index {index} is outside 0..{len(items) - 1}")
    return items[index]


def _check_metadata(model: Mapping[str, Any], *, n_tensors: int) -> None:
    for one in model["metadata"]:
        _require(one["name"] in _METADATA, f"metadata {str(one['name'])[:40]!r} are not supported")
        _require(len(_at(model["buffers"], one["buffer"])["data"]) > 0, "metadata are empty")
    for signature in model["signature_defs"]:
        ends = [*signature["inputs"], *signature["outputs"]]
        fits = all(end["name"] is not None and end["tensor_index"] < n_tensors for end in ends)
        _require(fits and signature["signature_key"] is not None and signature["subgraph_index"] == 0, "a signature is damaged")


def _tensor(number: int, table: Mapping[str, Any], buffers: Sequence[Mapping[str, Any]]) -> _Tensor:
    kind, shape = table["type"], tuple(int(side) for side in table["shape"])
    what = f"tensor {number}"
    _require(kind in _TYPES, f"{what} has type {kind}, which is not supported")
    _require(len(shape) <= MAX_RANK and all(1 <= side <= MAX_SIDE for side in shape), f"{what} has shape {shape[:9]}")
    signature = tuple(int(side) for side in table["shape_signature"])
    _require(
        not signature or (len(signature) == len(shape) and all(a in (-1, b) for a, b in zip(signature, shape, strict=True))),
        f"{what} has shape {shape} and signature {signature[:9]}",
    )
    content = _at(buffers, table["buffer"])["data"]
    data = None
    if len(content):
        _require(kind in _DTYPES, f"{what} is a constant of type {_TYPES[kind]}")
        dtype = np.dtype(_DTYPES[kind])
        _require(
            math.prod(shape) * dtype.itemsize == len(content), f"{what} has shape {shape} and {len(content)} bytes of content"
        )
        data = np.frombuffer(content, dtype).reshape(shape)
        _require(data.ctypes.data % dtype.itemsize == 0, f"the content of {what} is not aligned")
    scale = _scale(what, kind, shape, table["quantization"], is_constant=data is not None)
    value = tuple(int(n) for n in data.reshape(-1)) if data is not None and kind in (I32, I64) and data.size <= MAX_RANK else None
    return _Tensor(kind, shape, data, scale, known=data is not None, fixed=data is not None, value=value)


def _scale(what: str, kind: int, shape: Shape, table: Mapping[str, Any] | None, *, is_constant: bool) -> Any:
    """The scales (n,) of a tensor: one, or of a constant one for each index along the quantised dimension; float has none."""
    scale = np.empty(0) if table is None else np.asarray(table["scale"], np.float64)
    zero = np.empty(0, np.int64) if table is None else table["zero_point"]
    axis = 0 if table is None else table["quantized_dimension"]
    problem = f"the quantisation of {what} is damaged"
    _require(len(scale) == len(zero) and 0 <= axis < max(1, len(shape)), problem)
    if len(scale):
        per_axis = shape[axis] if is_constant and shape else 1
        _require(kind in (I8, I32, UINT8) and len(scale) in (1, per_axis), problem)
        in_range = (scale >= SCALES[0]) & (scale <= SCALES[1]) & (zero >= -128) & (zero <= 127)
        _require(bool(in_range.all()), problem)
    _require(len(scale) > 0 or kind != I8, f"{what} is int8 without a scale")
    if len(scale) > 1:
        _require(bool((zero == 0).all()), problem)
    return scale


def _operator(table: Mapping[str, Any], codes: Sequence[Mapping[str, Any]], tensors: list[_Tensor]) -> _Operator:
    code = _at(codes, table["opcode_index"])
    number = max(code["deprecated_builtin_code"], code["builtin_code"])
    if number not in _OPERATORS:
        raise BundleError(f"model cannot be loaded: operator {number} is not supported (docs/bundle.md lists those that are)")
    name, options_type, n_inputs, rule = _OPERATORS[number]
    options = table["options"]
    _require(table["options_type"] in (0, options_type), f"{name} has the options of another operator")
    _require(options is not None or name in _NO_OPTIONS, f"{name} has no options")
    inputs, outputs = [int(index) for index in table["inputs"]], table["outputs"]
    _require(len(inputs) in n_inputs and len(outputs) == 1, f"{name} has {len(inputs)} inputs and {len(outputs)} outputs")
    _require(all(index >= 0 or (index == -1 and at == 2) for at, index in enumerate(inputs)), f"{name} has inputs {inputs[:9]}")
    output = _at(tensors, int(outputs[0]))
    operator = _Operator(name, [None if index == -1 else _at(tensors, index) for index in inputs], output, options or {})
    operator.require(all(tensor is None or tensor.known for tensor in operator.inputs), "uses a tensor before it is computed")
    operator.require(not output.known, "writes to a tensor that has a content")
    operator.require(operator.options.get("fused_activation_function", 0) in range(4), "has an unsupported activation")
    shape = rule(operator)
    operator.require(shape == output.shape, f"must give a tensor {shape}, got {output.shape}")
    output.known = True
    output.fixed = all(tensor is None or tensor.fixed for tensor in operator.inputs)
    return operator


def _same_type(operator: _Operator, *inputs: _Tensor) -> None:
    """Check that inputs and output are all float32, or all int8 with scales that the arithmetic can bridge."""
    kinds = {tensor.type for tensor in (*inputs, operator.output)}
    operator.require(kinds in ({F32}, {I8}), f"has types {', '.join(sorted(_TYPES[kind] for kind in kinds))}")
    operator.require(
        all(len(tensor.scale) < 2 for tensor in inputs), "has more than one scale"
    )  # only weights may: XNNPACK aborts
    for tensor in (
        inputs if kinds == {I8} and operator.name not in ("LOGISTIC", "TANH") else ()
    ):  # their outputs have fixed scales
        _check_ratio(operator, tensor.scale)


def _check_ratio(operator: _Operator, *scales: Any) -> None:
    """Check that products of scales (the last one's per channel) are in reach of the output's."""
    ratio = math.prod(float(one[0]) for one in scales[:-1]) * scales[-1] / operator.output.scale[0]
    operator.require(bool((ratio < MAX_RATIO).all()), "has scales too far apart")


def _elementwise(operator: _Operator) -> Shape:
    _same_type(operator, operator.input(0))
    return operator.input(0).shape


def _broadcast(operator: _Operator) -> Shape:
    one, other = operator.input(0), operator.input(1)
    _same_type(operator, one, other)
    if operator.name == "MUL" and one.type == I8:
        _check_ratio(operator, one.scale, other.scale)
    try:
        shape = np.broadcast_shapes(one.shape, other.shape)
    except ValueError:
        shape = ()
    operator.require(shape in (one.shape, other.shape) and len(shape) <= 4, f"has inputs {one.shape} and {other.shape}")
    wide = one if shape == one.shape and not one.fixed else other
    operator.require(not wide.fixed and wide.shape == shape, "adds rows")
    return shape


def _convert(operator: _Operator) -> Shape:
    source, target = operator.input(0), operator.output
    allowed = {"QUANTIZE": ((F32, I8), (I8, I8)), "DEQUANTIZE": ((I8, F32), (F16, F32))}[operator.name]
    operator.require((source.type, target.type) in allowed, f"converts {_TYPES[source.type]} to {_TYPES[target.type]}")
    operator.require(source.type != F16 or source.data is not None, "converts float16, and not a constant")
    operator.require(source.type != I8 or len(source.scale) == 1, "has more than one scale")
    if source.type == target.type == I8:
        _check_ratio(operator, source.scale)
    return source.shape


def _weighted(operator: _Operator, *, rank: int, axis: int) -> tuple[_Tensor, _Tensor]:
    """The input and the weights of an operator with weights and an optional bias."""
    source, weights = operator.input(0), operator.input(1)
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    _same_type(operator, source)
    operator.require(weights.fixed and len(weights.shape) == rank, f"has weights {weights.shape}")
    operator.require(weights.type in (source.type, I8), f"has {_TYPES[weights.type]} weights")
    n_out = weights.shape[axis]
    operator.require(len(weights.scale) in (0, 1, n_out), f"has {len(weights.scale)} scales for {n_out} outputs")
    if source.type == I8:
        _check_ratio(operator, source.scale, weights.scale)
    if bias is not None:
        kind = I32 if source.type == I8 else F32
        operator.require(bias.fixed and bias.type == kind and bias.shape == (n_out,), f"has a bias {bias.shape}")
    operator.require(operator.options.get("quantized_bias_type", 0) in (0, I32), "has an unsupported bias")
    return source, weights


def _fully_connected(operator: _Operator) -> Shape:
    source, weights = _weighted(operator, rank=2, axis=0)
    n_out, n_in = weights.shape
    operator.require(operator.options["weights_format"] == 0, "has shuffled weights")
    operator.require(source.size % n_in == 0 and not source.fixed, f"has inputs {source.shape} and weights {weights.shape}")
    operator.macs = source.size * n_out
    if operator.options["keep_num_dims"]:
        operator.require(source.shape[-1] == n_in, f"has inputs {source.shape} and weights {weights.shape}")
        return *source.shape[:-1], n_out
    return source.size // n_in, n_out


def _side(operator: _Operator, side: int, *, kernel: int, stride: int, dilation: int = 1) -> int:
    """The length of one side after a convolution or pooling."""
    reach = (kernel - 1) * dilation + 1
    fits = 1 <= stride <= side and 1 <= dilation <= side and kernel >= 1
    operator.require(fits and operator.options["padding"] in (0, 1), "has an impossible stride, dilation or padding")
    operator.require(
        reach <= side or (operator.options["padding"] == 0 and reach <= 2 * side), "has a kernel larger than its input"
    )
    return -(-side // stride) if operator.options["padding"] == 0 else (side - reach) // stride + 1


def _sides(operator: _Operator, source: _Tensor, kernel: Sequence[int]) -> Shape:
    options = operator.options
    operator.require(len(source.shape) == 4 and not source.fixed, f"has an input {source.shape}")
    return tuple(
        _side(operator, side, kernel=size, stride=options[f"stride_{x}"], dilation=options.get(f"dilation_{x}", 1))
        for side, size, x in zip(source.shape[1:3], kernel, "hw", strict=True)
    )


def _conv(operator: _Operator) -> Shape:
    source, weights = _weighted(operator, rank=4, axis=0)
    sides = _sides(operator, source, weights.shape[1:3])
    operator.require(weights.shape[3] == source.shape[3], f"has inputs {source.shape} and weights {weights.shape}")
    operator.macs = source.shape[0] * math.prod(sides) * weights.size
    operator.scratch = source.shape[0] * math.prod(sides) * math.prod(weights.shape[1:])
    return source.shape[0], *sides, weights.shape[0]


def _depthwise(operator: _Operator) -> Shape:
    source, weights = _weighted(operator, rank=4, axis=3)
    sides = _sides(operator, source, weights.shape[1:3])
    fits = weights.shape[0] == 1 and weights.shape[3] == source.shape[3] * operator.options["depth_multiplier"]
    operator.require(fits, f"has inputs {source.shape} and weights {weights.shape}")
    operator.macs = source.shape[0] * math.prod(sides) * weights.size
    return source.shape[0], *sides, weights.shape[3]


def _transpose_conv(operator: _Operator) -> Shape:
    rows, height, width, n_out = operator.ints(0, n=4)
    operator.inputs = [operator.inputs[2], operator.inputs[1], *operator.inputs[3:]]  # as those of CONV_2D
    source, weights = _weighted(operator, rank=4, axis=0)
    operator.require(all(1 <= side <= MAX_SIDE for side in (rows, height, width, n_out)), "has an impossible shape")
    target = _Tensor(source.type, (rows, height, width, n_out), None, source.scale, known=True, fixed=False)
    fits = _sides(operator, target, weights.shape[1:3]) == source.shape[1:3] and (n_out, source.shape[3]) == weights.shape[::3]
    operator.require(fits and rows == source.shape[0], f"cannot turn {source.shape} into {target.shape}")
    operator.macs = source.size // source.shape[3] * weights.size
    operator.scratch = source.size // source.shape[3] * math.prod(weights.shape[:3])
    return target.shape


def _pool(operator: _Operator) -> Shape:
    source = operator.input(0)
    _same_type(operator, source)
    sides = _sides(operator, source, (operator.options["filter_h"], operator.options["filter_w"]))
    operator.macs = source.shape[0] * math.prod(sides) * operator.options["filter_h"] * operator.options["filter_w"]
    return source.shape[0], *sides, source.shape[3]


def _resize(operator: _Operator) -> Shape:
    source, sides = operator.input(0), operator.ints(1, n=2)
    _same_type(operator, source)
    operator.require(len(source.shape) == 4 and not source.fixed, f"has an input {source.shape}")
    operator.require(operator.input(1).type == I32 and all(1 <= side <= MAX_SIDE for side in sides), f"has sides {sides}")
    corners = operator.options["align_corners"] and operator.options["half_pixel_centers"]
    operator.require(not corners, "has contradictory options")
    operator.macs = 4 * source.shape[0] * source.shape[3] * math.prod(sides)
    return source.shape[0], *sides, source.shape[3]


def _reshape(operator: _Operator) -> Shape:
    source = operator.input(0)
    _same_type(operator, source)
    shape = operator.ints(1) if len(operator.inputs) > 1 else tuple(int(n) for n in operator.options.get("new_shape", ())[:9])
    if shape.count(-1) == 1 and (known := -math.prod(shape)) > 0 and source.size % known == 0:
        shape = tuple(source.size // known if side == -1 else side for side in shape)
    fits = 0 < len(shape) <= MAX_RANK and all(1 <= side <= MAX_SIDE for side in shape) and math.prod(shape) == source.size
    operator.require(fits, f"cannot turn {source.shape} into {shape}")
    return shape


def _shape(operator: _Operator) -> Shape:
    source = operator.input(0)
    operator.require(operator.output.type == operator.options["out_type"] == I32, "must give int32")
    operator.output.value = source.shape
    return (len(source.shape),)


def _strided_slice(operator: _Operator) -> Shape:
    """One element of a shape, as converters ask for the number of rows."""
    values, begin, end, stride = operator.ints(0), *(operator.ints(number, n=1)[0] for number in (1, 2, 3))
    options = dict(operator.options)
    is_element = options.pop("shrink_axis_mask") == 1 and not any(options.values())
    fits = is_element and 0 <= begin < len(values) and end == begin + 1 and stride == 1 and operator.output.type == I32
    kinds = {operator.input(number).type for number in range(4)}
    operator.require(fits and kinds == {I32} and len(operator.input(0).shape) == 1, "must take one element of a shape")
    operator.output.value = (values[begin],)
    return ()


def _pack(operator: _Operator) -> Shape:
    values = tuple(operator.ints(number, n=1)[0] for number in range(len(operator.inputs)))
    kinds = {tensor.type for tensor in (*operator.inputs, operator.output) if tensor is not None}
    fits = operator.options["values_count"] == len(values) and operator.options["axis"] == 0 and kinds == {I32}
    operator.require(fits and all(tensor is not None and tensor.shape == () for tensor in operator.inputs), "must make a shape")
    operator.output.value = values
    return (len(values),)


# By number in the schema: name, type of the options, possible numbers of inputs, rule.
_OPERATORS: Mapping[int, tuple[str, int, Sequence[int], Rule]] = {
    0: ("ADD", 11, (2,), _broadcast),
    1: ("AVERAGE_POOL_2D", 5, (1,), _pool),
    3: ("CONV_2D", 1, (2, 3), _conv),
    4: ("DEPTHWISE_CONV_2D", 2, (2, 3), _depthwise),
    6: ("DEQUANTIZE", 38, (1,), _convert),
    9: ("FULLY_CONNECTED", 8, (2, 3), _fully_connected),
    14: ("LOGISTIC", 0, (1,), _elementwise),
    17: ("MAX_POOL_2D", 5, (1,), _pool),
    18: ("MUL", 21, (2,), _broadcast),
    19: ("RELU", 0, (1,), _elementwise),
    21: ("RELU6", 0, (1,), _elementwise),
    22: ("RESHAPE", 17, (1, 2), _reshape),
    23: ("RESIZE_BILINEAR", 15, (2,), _resize),
    28: ("TANH", 0, (1,), _elementwise),
    41: ("SUB", 28, (2,), _broadcast),
    45: ("STRIDED_SLICE", 32, (4,), _strided_slice),
    67: ("TRANSPOSE_CONV", 49, (3, 4), _transpose_conv),
    77: ("SHAPE", 55, (1,), _shape),
    83: ("PACK", 59, range(1, MAX_RANK + 1), _pack),
    97: ("RESIZE_NEAREST_NEIGHBOR", 74, (2,), _resize),
    98: ("LEAKY_RELU", 75, (1,), _elementwise),
    111: ("ELU", 0, (1,), _elementwise),
    114: ("QUANTIZE", 89, (1,), _convert),
}
_NO_OPTIONS = ("ELU", "LOGISTIC", "RELU", "RELU6", "TANH", "RESHAPE", "QUANTIZE", "DEQUANTIZE")
