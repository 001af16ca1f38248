"""Arguments that several commands share."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from monitor.errors import ConfigError
from train.recipes.method import Method

if TYPE_CHECKING:
    from train.datasets import Dataset

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_dataset_options(parser: argparse.ArgumentParser, *, split: str) -> None:
    """Options for reading a data set; `split` is the command's use of lists of clips."""
    layouts = "mimii, toyadmos, dcase2020, dcase2021 or plain"
    parser.add_argument("--layout", metavar="NAME", help=f"how the data set is laid out: {layouts} (default: detected)")
    parser.add_argument("--machine", metavar="NAME", help="use one of the data set's machines: fan, or fan/id_00")
    parser.add_argument("--channel", type=count, metavar="N", help="use channel N, from 1 (default: the mean of all)")
    parser.add_argument("--split", type=Path, metavar="DIR", help=f"train.txt, held_out.txt and test.txt: {split}")


def dataset_of(folder: Path, arguments: argparse.Namespace) -> "Dataset":
    """The data set in a folder, read as these options request."""
    from train.datasets import read_dataset

    return read_dataset(folder, layout=arguments.layout, machine=arguments.machine)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def method_number(parameter: str) -> Callable[[str], float]:
    """A parser for this parameter of a calibration method, which reports values out of range as usage errors."""

    def parse(text: str) -> float:
        value = positive(text)
        try:
            Method(name="default", **{parameter: value})
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return parse


def bundle_folder(text: str) -> Path:
    """A folder whose name is the bundle's; a path without a name, such as `.`, is resolved."""
    path = Path(text)
    return path.resolve() if path.name in ("", "..") else path


def not_negative(text: str) -> float:
    """A finite number, 0 or more."""
    return 0.0 if text.strip() in ("0", "0.0") else positive(text)


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number, 0 or more, of at most 32 bits."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"must be a whole number in 0..2^32 - 1, got {text!r}")
    return int(text)
