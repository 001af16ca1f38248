"""The layers of a .tflite file with shapes, types and sizes, and the time per window."""

import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from monitor.bundle.interpreter import TFLiteModel

_REPEATS = 50


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator. `macs` are its multiply-accumulates for one window; None for an operator without any."""

    operator: str
    output_shape: tuple[int, ...]
    output_type: str
    weights_shape: tuple[int, ...] | None
    weights_type: str | None
    n_scales: int  # of the weights: more than one where they are quantised per channel
    n_bytes: int  # of all its constants
    macs: int | None


def read_layers(content: bytes) -> tuple[Layer, ...]:
    """The operators of the first subgraph, in the order in which they run."""
    schema = _schema()
    operators, types = ({n: name for name, n in vars(table).items() if isinstance(n, int)} for table in _tables(schema))
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    return tuple(_layer(operator, model, graph, operators, types) for operator in graph.operators)


def microseconds_a_window(model: TFLiteModel, *, n_rows: int) -> float:
    """Median time that the model takes for one window on this computer, when it is given `n_rows` at a time."""
    windows = np.zeros((n_rows, model.n_in), np.float32)
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        model.predict(windows)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / n_rows * 1e6


@cache
def _schema() -> ModuleType:
    """TensorFlow's generated reader of .tflite files, loaded without TensorFlow, which takes seconds."""
    package = find_spec("tensorflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "lite" / "python" / "schema_py_generated.py"
    spec = spec_from_file_location("tflite_schema", path)
    assert spec is not None
    assert spec.loader is not None
    schema = module_from_spec(spec)
    spec.loader.exec_module(schema)
    return schema


def _tables(schema: Any) -> tuple[Any, Any]:
    return schema.BuiltinOperator, schema.TensorType


def _layer(operator: Any, model: Any, graph: Any, operators: dict[int, str], types: dict[int, str]) -> Layer:
    code = model.operatorCodes[operator.opcodeIndex]
    name = operators.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
    output = graph.tensors[operator.outputs[0]]
    constants = [
        (graph.tensors[index], model.buffers[graph.tensors[index].buffer].data)
        for index in operator.inputs
        if index >= 0 and model.buffers[graph.tensors[index].buffer].data is not None
    ]
    weights = max((tensor for tensor, _ in constants if len(_shape(tensor)) > 1), key=_size, default=None)
    scales = None if weights is None or weights.quantization is None else weights.quantization.scale
    return Layer(
        operator=name,
        output_shape=_shape(output),
        output_type=types[output.type].lower(),
        weights_shape=None if weights is None else _shape(weights),
        weights_type=None if weights is None else types[weights.type].lower(),
        n_scales=0 if scales is None else len(scales),
        n_bytes=sum(len(data) for _, data in constants),
        macs=None if weights is None else _macs(name, _shape(weights), _shape(output)),
    )


def _macs(name: str, weights: tuple[int, ...], output: tuple[int, ...]) -> int | None:
    """Weights of a dense layer are (n_out, n_in), of a convolution (n_out, height, width, n_in), depthwise (1, h, w, n_out)."""
    if name == "FULLY_CONNECTED":
        return int(np.prod(weights))
    if name == "CONV_2D":
        return int(np.prod(output[1:3]) * np.prod(weights))
    if name == "DEPTHWISE_CONV_2D":
        return int(np.prod(output[1:3]) * np.prod(weights[1:]))
    return None


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def _size(tensor: Any) -> int:
    return int(np.prod(_shape(tensor)))
