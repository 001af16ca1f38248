"""A model passes only if nothing in it can crash a runtime."""

import copy
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from monitor.bundle.interpreter import RUNTIME, TFLiteModel
from monitor.bundle.network import check_network
from monitor.bundle.trial import load_after_trial
from monitor.errors import BundleError
from tests.bundle.mutants import MANIFEST, MODEL, STATISTICS, pack, unpack, with_model

SPLIT, ONE_HOT = 49, 85
Change = Callable[[Any], None]


@pytest.fixture
def model(demo_bundle: Path) -> bytes:
    return (demo_bundle / "model.tflite").read_bytes()


def operator(tables: Any, number: int = 0) -> Any:
    return tables.subgraphs[0].operators[number]


def weights(tables: Any) -> Any:
    return tables.subgraphs[0].tensors[operator(tables).inputs[1]]


def set_code(number: int) -> Change:
    def change(tables: Any) -> None:
        tables.operatorCodes[0].builtinCode = tables.operatorCodes[0].deprecatedBuiltinCode = number

    return change


def set_inputs(*inputs: int) -> Change:
    return lambda tables: setattr(operator(tables), "inputs", list(inputs))


def set_weights(key: str, value: Any) -> Change:
    return lambda tables: setattr(weights(tables), key, value)


def set_quantisation(key: str, value: Any) -> Change:
    return lambda tables: setattr(weights(tables).quantization, key, value)


CRAFTED: list[tuple[Change, str]] = [
    (set_code(SPLIT), "operator 49 is not supported (docs/bundle.md lists those that are)"),
    (set_code(ONE_HOT), "operator 85 is not supported"),
    (set_code(3), "CONV_2D has the options of another operator"),
    (set_code(14), "LOGISTIC has the options of another operator"),
    (set_inputs(), "FULLY_CONNECTED has 0 inputs and 1 outputs"),
    (set_inputs(0, 1), "FULLY_CONNECTED "),
    (set_inputs(-1, 1, 2), "FULLY_CONNECTED has inputs [-1, 1, 2]"),
    (set_inputs(0, -1, 2), "FULLY_CONNECTED has inputs [0, -1, 2]"),
    (set_inputs(0, 99, 2), "index 99 is outside 0..18"),
    (set_inputs(0, -(2**31), 2), "FULLY_CONNECTED has inputs [0, -2147483648, 2]"),
    (lambda tables: setattr(operator(tables), "outputs", []), "has 3 inputs and 0 outputs"),
    (lambda tables: setattr(operator(tables), "outputs", [1]), "writes to a tensor that has a content"),
    (lambda tables: setattr(operator(tables), "outputs", [15]), "must give a tensor (1, 64), got (1, 8)"),
    (lambda tables: setattr(operator(tables), "opcodeIndex", 7), "index 7 is outside 0..0"),
    (lambda tables: tables.subgraphs[0].operators.reverse(), "uses a tensor before it is computed"),
    (lambda tables: setattr(tables.subgraphs[0], "operators", []), "it has no operators"),
    (lambda tables: setattr(tables.subgraphs[0], "inputs", [0, 0]), "model must have 1 input and 1 output, got 2 and 1"),
    (lambda tables: setattr(tables.subgraphs[0], "outputs", [-1]), "index -1 is outside 0..18"),
    (lambda tables: setattr(tables, "subgraphs", tables.subgraphs * 2), "it must have one graph"),
    (set_weights("buffer", 0), "the quantisation of tensor 12 is damaged"),
    (set_weights("buffer", 1000), "index 1000 is outside 0..21"),
    (set_weights("shape", [2**15, 2**15]), "has shape (32768, 32768) and 20480 bytes of content"),
    (set_weights("shape", [-64, -320]), "has shape (-64, -320)"),
    (set_weights("shape", [0, 320]), "has shape (0, 320)"),
    (set_weights("shape", [64, 320, 1]), "FULLY_CONNECTED has weights (64, 320, 1)"),
    (set_weights("shape", [32, 640]), "the quantisation of tensor 12 is damaged"),
    (set_weights("type", 0), "has shape (64, 320) and 20480 bytes of content"),
    (set_weights("type", 5), "has type 5, which is not supported"),
    (set_weights("quantization", None), "is int8 without a scale"),
    (set_quantisation("scale", [float("nan")] * 64), "is damaged"),
    (set_quantisation("scale", [1.0] * 63), "is damaged"),
    (set_quantisation("scale", [1e5] * 64), "FULLY_CONNECTED has scales too far apart"),
    (set_quantisation("zeroPoint", [2**40] * 64), "is damaged"),
    (set_quantisation("quantizedDimension", 7), "is damaged"),
    (lambda tables: setattr(operator(tables).builtinOptions, "weightsFormat", 1), "has shuffled weights"),
    (lambda tables: setattr(operator(tables).builtinOptions, "fusedActivationFunction", 99), "has an unsupported activation"),
    (lambda tables: setattr(tables.metadata[0], "buffer", 500), "index 500 is outside 0..21"),
    (lambda tables: setattr(tables.metadata[0], "name", b"model_control_dependencies"), "metadata 'model_control_dependencies'"),
    (lambda tables: setattr(tables.signatureDefs[0], "subgraphIndex", 3), "a signature is damaged"),
    (lambda tables: setattr(tables.buffers[3], "offset", 64), "unsupported field 1 in a table with data"),
]


@pytest.mark.parametrize(("change", "message"), CRAFTED)
def test_a_crafted_model_is_refused(model: bytes, change: Change, message: str) -> None:
    tables = unpack(model)
    change(tables)
    with pytest.raises(BundleError) as caught:
        check_network(pack(tables))
    assert str(caught.value).startswith(("model cannot be loaded: ", "model must have"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code", "options", "kind"), [("ADD", 0, schema.AddOptionsT, 11), ("SUB", 41, schema.SubOptionsT, 28)]
)
def test_a_scale_per_channel_is_only_for_weights(model: bytes, name: str, code: int, options: type, kind: int) -> None:
    """XNNPACK aborts the process if an operand of an addition has several scales."""
    tables = unpack(model)
    first, graph = operator(tables), tables.subgraphs[0]
    weight = weights(tables)
    width = graph.tensors[first.outputs[0]].shape[-1]
    operand = copy.deepcopy(weight)
    operand.shape, operand.shapeSignature, operand.buffer = [width], None, len(tables.buffers)
    operand.quantization.scale = list(operand.quantization.scale[:width])
    operand.quantization.zeroPoint = [0] * width
    tables.buffers.append(schema.BufferT())
    tables.buffers[-1].data = np.ones(width, np.uint8)
    graph.tensors += [operand, copy.deepcopy(graph.tensors[first.outputs[0]])]
    added = copy.deepcopy(first)
    added.inputs, added.outputs = [first.outputs[0], len(graph.tensors) - 2], [len(graph.tensors) - 1]
    tables.operatorCodes.append(copy.deepcopy(tables.operatorCodes[0]))
    tables.operatorCodes[-1].builtinCode = tables.operatorCodes[-1].deprecatedBuiltinCode = code
    added.opcodeIndex, added.builtinOptionsType, added.builtinOptions = len(tables.operatorCodes) - 1, kind, options()
    graph.operators.insert(1, added)
    graph.operators[2].inputs[0] = added.outputs[0]
    with pytest.raises(BundleError, match=f"{name} has more than one scale"):
        check_network(pack(tables))
    operand.quantization.scale, operand.quantization.zeroPoint = operand.quantization.scale[:1], [0]
    check_network(pack(tables))


def float_model(*operators: tuple[int, int, Any]) -> bytes:
    """Operators of one input, which is also the second of ADD, in a row: code, kind of options, options."""
    tables, graph = schema.ModelT(), schema.SubGraphT()
    tables.version, tables.description, tables.subgraphs = 3, b"", [graph]
    tables.buffers, tables.metadata, tables.signatureDefs = [schema.BufferT()], [], []
    tables.operatorCodes, graph.operators, graph.tensors, graph.name = [], [], [], b"main"
    for number in range(len(operators) + 1):
        tensor = schema.TensorT()
        tensor.shape, tensor.name = [1, 16], b"%d" % number
        graph.tensors.append(tensor)
    for number, (builtin, kind, options) in enumerate(operators):
        code, one = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        tables.operatorCodes.append(code)
        one.opcodeIndex, one.builtinOptionsType, one.builtinOptions = number, kind, options
        one.inputs, one.outputs = [number] * (2 if builtin == 0 else 1), [number + 1]
        graph.operators.append(one)
    graph.inputs, graph.outputs = [0], [len(operators)]
    return pack(tables)


def test_a_model_of_a_fixed_number_of_rows_is_run_row_by_row() -> None:
    """tflite-runtime crashed, because it was used again after it had failed to take more rows."""
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [1, 16]
    model = float_model((0, 11, schema.AddOptionsT()), (22, 17, reshape), (0, 11, schema.AddOptionsT()))
    windows = np.random.default_rng(0).normal(-60.0, 5.0, (4, 16)).astype(np.float32)
    np.testing.assert_allclose(TFLiteModel(model, n_rows=4).predict(windows), 4 * windows, rtol=1e-6)


def test_a_table_that_is_shared_a_million_times_is_refused(model: bytes) -> None:
    tables = unpack(model)
    tables.subgraphs[0].tensors *= 1000
    with pytest.raises(BundleError, match="more than 8192 tables"):
        check_network(pack(tables))


def test_a_model_that_is_packed_again_is_accepted(model: bytes) -> None:
    assert check_network(pack(unpack(model))) == check_network(model)


def test_the_cost_of_a_model_is_that_of_its_layers(model: bytes) -> None:
    units = (320, 64, 64, 8, 64, 64, 320)
    network = check_network(model)
    assert network.row_macs == sum(a * b for a, b in pairwise(units))
    assert network.row_bytes == 4 * sum(units)


PERMISSIVE = """#!{python}
import sys
sys.path[:] = {path}
from monitor.bundle import interpreter, load, network, trial
load.check_network = interpreter.check_network = lambda content: network.Network(0, 0, 0)
sys.argv = ["trial", sys.argv[-1]]
sys.exit(trial.main())
"""


@pytest.mark.skipif(RUNTIME == "tflite-runtime", reason="tflite-runtime refuses this model itself")
def test_a_crash_ends_the_trial_and_not_the_service(
    demo_bundle: Path, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's check of the graph is switched off, so that the runtime really crashes."""
    tables = unpack(model)
    set_code(SPLIT)(tables)
    files = {name: (demo_bundle / name).read_bytes() for name in (MANIFEST, MODEL, STATISTICS)}
    for name, content in with_model(files, pack(tables)).items():
        (tmp_path / name).write_bytes(content)
    python = tmp_path / "python"
    python.write_text(PERMISSIVE.format(python=sys.executable, path=sys.path))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(BundleError, match="loading it ended a trial process with SIGSEGV; it is not used"):
        load_after_trial(tmp_path, tmp_path / "tried")
    assert not (tmp_path / "tried").exists()


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        content = rng.bytes(4) + b"TFL3" + rng.bytes(int(rng.integers(0, 400)))
        with pytest.raises(BundleError, match="model cannot be loaded"):
            check_network(content)
