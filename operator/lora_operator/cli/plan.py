"""`lora-operator plan`: what would be done now and why, without doing it; the same as `kubectl lora plan`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from lora_operator.plugin.arguments import PLAN, add_command
from lora_operator.plugin.main import run


def add(commands: Any) -> None:
    """Register the command."""
    add_command(commands, replace(PLAN, examples=PLAN.examples.replace("kubectl lora", "lora-operator")))
    commands.choices[PLAN.name].set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Exit status: 0 everything has a place, 1 failed, 2 the command line makes no sense, 3 something has none."""
    return run(arguments)
