"""`lora`: parses the command line, runs one command, and says in one line what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lora_operator.plugin.main import NO_SENSE, run
from lora_operator.terminal.arguments import parser


def main(arguments: Sequence[str] | None = None) -> int:
    top = parser()
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        top.print_help(sys.stderr)
        return NO_SENSE
    return run(top.parse_args(given))


if __name__ == "__main__":
    sys.exit(main())
