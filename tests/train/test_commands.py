"""What the commands have in common."""

import argparse
from pathlib import Path

import pytest

from train.commands import calibrate, evaluate, fit, import_model, inspect

NEEDED = {
    "fit": ["--recipe", "mimii-mel", "--out", "x"],
    "evaluate": ["data", "--out", "x"],
    "calibrate": ["--on", "data"],
    "inspect": [],
    "import-model": ["--recipe", "mimii-mel", "--out", "x", "--calibrate-on", "data"],
}


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_every_command_that_reads_a_data_set_takes_the_same_options(command: str) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for module in (calibrate, evaluate, fit, import_model, inspect):
        module.add(commands)
    parsed = parser.parse_args([command, "one", *NEEDED[command], "--layout", "plain", "--channel", "2", "--split", "lists"])
    assert (parsed.layout, parsed.channel, parsed.split) == ("plain", 2, Path("lists"))
