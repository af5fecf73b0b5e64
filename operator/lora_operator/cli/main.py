"""`lora-operator`: parses the command line and hands over to one command."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from lora_operator import __version__
from lora_operator.cli.stopping import exit_now
from lora_operator.settings.options import SettingsError

COMMANDS = ("run", "agent", "router", "library", "plan")


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, so that tests and completion can look at it, or that of one command."""
    top = argparse.ArgumentParser(
        prog="lora-operator",
        description="Keeps LoRA adapters loaded on vLLM pods, as LoraAdapter resources declare them.",
        epilog="Every flag of a command can also be set by the environment variable that its help names.",
    )
    top.add_argument("--version", action="version", version=f"lora-operator {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    with _uncollected():
        for name in COMMANDS if only is None else (only,):
            # each brings its own libraries: an agent's image has no use for those of the controller
            importlib.import_module(f"lora_operator.cli.{name}").add(commands)
    return top


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """What is imported stays: to look for garbage in it takes a tenth of the time that it takes to import."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 ended in order, 1 failed, 2 the command line or environment makes no sense."""
    given = sys.argv[1:] if arguments is None else arguments
    parsed = parser(given[0] if given and given[0] in COMMANDS else None).parse_args(given)
    try:
        status: int = parsed.main(parsed)
    except SettingsError as error:
        sys.stderr.write(f"lora-operator: {error}\n")
        return 2
    return status


def entry() -> NoReturn:
    """`main` as a process of its own."""
    status = 1
    try:
        status = main()
    except Exception:  # a defect; the interpreter's own end would wait for threads that hang
        traceback.print_exc()
    exit_now(status)


if __name__ == "__main__":
    entry()
