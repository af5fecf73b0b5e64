"""`kubectl lora`: parses the command line, runs one command, and says in one line what went wrong."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from lora_operator.plugin.arguments import parser
from lora_operator.plugin.problems import FAILED, PluginError

NO_SENSE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 the command line makes no sense, 3 `plan`: something has no place."""
    top = parser()
    if "_ARGCOMPLETE" in os.environ:
        from lora_operator.plugin.completion import complete_in_shell

        complete_in_shell(top)
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        top.print_help(sys.stderr)
        return NO_SENSE
    return run(top.parse_args(given))


def run(parsed: argparse.Namespace) -> int:
    """Run a parsed command; what goes wrong is told on the standard error."""
    import asyncio
    import logging

    # what it warns of is told in the error that follows
    logging.getLogger("kubernetes").addHandler(logging.NullHandler())
    try:
        status: int = asyncio.run(importlib.import_module(parsed.module).run(parsed))
    except PluginError as error:
        return complain(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read has enough; nothing may be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def complain(error: PluginError) -> int:
    """Say what went wrong; returns the exit status."""
    from lora_operator.plugin.screen import clean

    sys.stderr.write(f"error: {clean(str(error))}\n")
    return error.status


if __name__ == "__main__":
    sys.exit(main())
