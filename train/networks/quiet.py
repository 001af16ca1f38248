"""TensorFlow without its messages about devices that this computer lacks."""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any


def load_tensorflow() -> Any:
    """TensorFlow with its devices opened. Its C++ code announces missing GPUs at levels that no setting filters."""
    with held_back():
        import tensorflow as tf

        tf.config.list_logical_devices()
    return tf


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back what C++ code writes to stderr, and show it only on an exception; a crash shows where it happened."""
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    is_watched = faulthandler.is_enabled()
    if not is_watched:
        faulthandler.enable(stderr)
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
        if not is_watched:
            faulthandler.disable()
        os.close(stderr)
