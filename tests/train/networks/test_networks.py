"""What is trained and what is exported are the same function."""

import math
import os
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from monitor.arrays import F32
from monitor.bundle.interpreter import TFLiteModel
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.windows import WindowSpec
from train.features.frames import WindowSet
from train.networks.export import to_tflite
from train.networks.networks import BandStatistics, build_network, device_network, fold, plain_network
from train.networks.quiet import held_back
from train.networks.training import fit_network
from train.recipes.recipe import DenseNetwork, Recipe, load_recipe

MEAN, DEVIATION = np.linspace(-80.0, -30.0, 20), np.linspace(1.0, 6.0, 20)
STATISTICS = BandStatistics(MEAN, DEVIATION, -100.0, 0.0)


def recipe(**network: object) -> Recipe:
    base = load_recipe("mimii-mel")
    front_end = LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=20, fmax_hz=8000.0)
    settings = {
        "kind": "dense",
        "hidden": (16, 4, 16),
        "batch_norm": False,
        "output": "linear",
        "scaling": "none",
        "predicts": "window",
    }
    part = DenseNetwork.model_validate({**settings, **network})
    return base.model_copy(update={"front_end": front_end, "window": WindowSpec(n_frames=1), "network": part})


def rows(n: int) -> F32:
    return (MEAN + DEVIATION * np.random.default_rng(1).standard_normal((n, 20))).astype(np.float32)


def with_random_weights(model: tf.keras.Model) -> tf.keras.Model:
    """Nothing is zero: biases, moving means and variances, gains and offsets."""
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Dense):
            weights, bias = layer.get_weights()
            layer.set_weights([weights, rng.normal(0.0, 1.0, bias.shape)])
        elif isinstance(layer, tf.keras.layers.BatchNormalization):
            shape = layer.get_weights()[0].shape
            layer.set_weights(
                [rng.uniform(0.5, 2, shape), rng.normal(0, 1, shape), rng.normal(0, 3, shape), rng.uniform(0.5, 4, shape)]
            )
    return model


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("scaling", "output"), [("none", "linear"), ("standard", "linear"), ("minmax", "sigmoid")])
def test_folding_keeps_the_function(batch_norm: bool, scaling: str, output: str) -> None:
    model = with_random_weights(build_network(recipe(batch_norm=batch_norm, scaling=scaling, output=output), STATISTICS))
    layers = fold(model)
    assert [layer.activation for layer in layers] == ["relu", "relu", "relu", output]
    want, got = model.predict(rows(50), verbose=0), plain_network(layers).predict(rows(50), verbose=0)
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_int8_has_one_weight_scale_a_channel_and_stays_close_to_float(capfd: pytest.CaptureFixture[str]) -> None:
    network = device_network(with_random_weights(build_network(recipe(batch_norm=True, scaling="standard"), STATISTICS)))
    capfd.readouterr()
    content = to_tflite(network, representative=rows(500))
    assert capfd.readouterr().err == ""
    interpreter = tf.lite.Interpreter(model_content=content)
    weights = [
        t
        for t in interpreter.get_tensor_details()
        if t["dtype"] == np.int8 and len(t["shape"]) == 2 and len(t["quantization_parameters"]["scales"]) > 1
    ]
    assert len(weights) == 4
    assert all(len(set(tensor["quantization_parameters"]["scales"])) > 1 for tensor in weights)
    int8 = TFLiteModel(content, n_rows=32).predict(rows(32))
    float32 = TFLiteModel(to_tflite(network, representative=None), n_rows=32).predict(rows(32))
    assert np.sqrt(np.mean((int8 - float32) ** 2)) < 0.03 * float32.std()


def test_what_the_converter_says_is_shown_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with held_back():
        os.write(2, b"flags")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError), held_back():
        os.write(2, b"why")
        raise ValueError
    assert capfd.readouterr().err == "why"


def test_a_crash_is_not_held_back() -> None:
    code = "import os; from train.networks.quiet import held_back\nwith held_back(): os.abort()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode < 0
    assert done.stderr.startswith("Fatal Python error: Aborted")


class Noted(WindowSet):
    """Windows that note which were asked for."""

    def __init__(self, runs: list[F32]) -> None:
        super().__init__(runs, n_frames=5)
        self.asked: list[list[int]] = []

    def windows(self, which: NDArray[np.intp]) -> F32:
        self.asked.append(which.tolist())
        return super().windows(which)


def seen(max_windows: int | None, *, n_frames: int, seed: int = 0) -> tuple[list[set[int]], list[set[int]]]:
    """The windows of each of three epochs, to train on and to validate on."""
    base = load_recipe("mimii-mel")
    changed = {"epochs": 3, "batch_size": 16, "max_windows": max_windows}
    recipe = base.model_copy(update={"training": base.training.model_copy(update=changed)})
    runs = [np.random.default_rng(0).normal(-50.0, 5.0, (n_frames, recipe.front_end.n_bands)).astype(np.float32)]
    windows, validation = Noted(runs), Noted(runs)
    fit_network(recipe, windows, validation, seed=seed)
    found = []
    for one in (windows, validation):
        per_epoch = math.ceil(min(max_windows or len(windows), len(windows)) / 16)
        batches = one.asked[-3 * per_epoch :]  # Keras looks at the first batch before it begins
        epochs = [list(chain(*batches[at : at + per_epoch])) for at in range(0, 3 * per_epoch, per_epoch)]
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
        found.append([set(epoch) for epoch in epochs])
    return found[0], found[1]


def test_epochs_of_many_windows_have_other_ones_each() -> None:
    epochs, validation = seen(64, n_frames=304)
    assert [len(epoch) for epoch in epochs] == [64] * 3
    assert len(set().union(*epochs)) == 3 * 64  # of 300
    assert seen(64, n_frames=304)[0] == epochs
    assert seen(64, n_frames=304, seed=1)[0] != epochs
    assert validation[0] == validation[1] == validation[2]
    assert sorted(validation[0])[::63] == [0, 299]
    assert seen(None, n_frames=104) == seen(100, n_frames=104) == ([set(range(100))] * 3,) * 2
