#!/usr/bin/env python3
"""Runs `kubectl lora`, or answers kubectl when it completes the command line, with the packages beside this file."""

import sys
from pathlib import Path

# Written for any Python 3: an old one is to say what is wrong and not where a syntax error is.
HERE = Path(__file__).resolve().parent
VERSION = "{}.{}".format(*sys.version_info)
KNOWN = sorted((path.name[2:] for path in (HERE / "lib").glob("py3*")), key=lambda name: int(name.split(".")[1]))

if VERSION not in KNOWN:
    sys.exit(
        "kubectl lora needs one of Python {}, and python3 on the PATH is {} ({}): "
        "install one, or put it first on the PATH".format(", ".join(KNOWN), VERSION, sys.executable)
    )
sys.path[:0] = [str(HERE / "lib" / ("py" + VERSION)), str(HERE / "lib" / "any")]

if Path(sys.argv[0]).name.startswith("kubectl_complete"):
    from lora_operator.plugin.completion import main as complete

    sys.exit(complete())

from lora_operator.plugin.main import main  # noqa: E402  (found beside this file)

sys.exit(main())
