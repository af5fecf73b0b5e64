"""`python -m e2e.demo [run] [--keep] [--cluster real] [--engine sim|vllm] [--store s3|azure|hf]`, `… down`."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from e2e.cluster.errors import ClusterError
from e2e.controlplane.errors import BinariesError, ControlPlaneError
from e2e.demo import record
from e2e.demo.errors import CannotStart
from e2e.demo.perform import INTERRUPTS, perform
from e2e.demo.real import perform_on_nodes
from e2e.demo.screen import Screen
from e2e.demo.shown import shown
from e2e.demo.uploads import UPLOADS

DEFAULT_DIRECTORY = Path(".run/demo")
INTERRUPTED = 130
AGAIN_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all was shown. 1: something was not as it should be. 2: it could not start. 130: interrupted."""
    chosen = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    screen = Screen()
    directory = chosen.dir.absolute()
    try:
        if chosen.what == "down":
            return _down(directory, screen)
        if chosen.store and chosen.keep:
            raise CannotStart(
                "a store ends with the demo that started it: leave out --store (STORE=) or --keep (KEEP=)"
            )
        if chosen.cluster == "real":
            return perform_on_nodes(screen, keep=chosen.keep)
        return perform(directory, screen, kind=chosen.engine, port=chosen.port, keep=chosen.keep, store=chosen.store)
    except (CannotStart, BinariesError, ClusterError) as error:
        screen.bad(str(error))
        return 2
    except ControlPlaneError as error:
        screen.bad(f"something could not be ended: {error}")
        return 1
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        screen.plain("\ninterrupted; everything has been ended")
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read has gone; nothing more can be said, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.demo",
        description="Shows the whole system at work on this machine: a control plane, vLLM pods and the operator, as "
        "processes on loopback. Ends by itself and leaves nothing running, unless told to with --keep.",
    )
    parser.add_argument("what", nargs="?", choices=("run", "down"), default="run", help="down ends what --keep left")
    parser.add_argument("--keep", action="store_true", help="leave everything running for your own kubectl")
    parser.add_argument(
        "--engine",
        choices=("sim", "vllm"),
        default="sim",
        help="simulated vLLM, or real vLLM on the CPU, which is installed at the first time: 6 GB (default: sim)",
    )
    parser.add_argument(
        "--cluster",
        choices=("played", "real"),
        default="played",
        help="played: a program plays the kubelet, in seconds; real: two real nodes with the charts, as root, in "
        "minutes (default: played)",
    )
    parser.add_argument(
        "--store",
        choices=tuple(sorted(UPLOADS)),
        help="upload the adapters to a store of this kind, and have agents in the pods fetch them (default: a folder)",
    )
    parser.add_argument("--port", type=int, help="port of all engines (default: the first that is free from 8000 on)")
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_DIRECTORY, help="where logs and data are (default: %(default)s)"
    )
    return parser


def _down(directory: Path, screen: Screen) -> int:
    left = record.load(directory)
    if left is None:
        screen.plain(f"nothing was left running in {shown(directory)}")
        return 0
    left.end(directory / "pods")
    if still := left.running():
        screen.bad(f"could not end {', '.join(still)}; see {directory / record.FILE} for the processes")
        return 1
    record.forget(directory)
    screen.plain(f"everything has been ended; logs are in {shown(directory)}")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    # what is raised while an object is being finalized is lost: it comes again until somebody has taken it
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
