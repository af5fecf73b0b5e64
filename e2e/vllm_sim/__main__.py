"""The simulator as a process: `python -m e2e.vllm_sim --model tiny --enable-lora --port 8000`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from . import __doc__ as manual
from .arguments import ArgumentsRefused, make_parser, parse_arguments, warn_about_ignored
from .server import Engine


async def _run(args: list[str]) -> int:
    settings = parse_arguments(args, os.environ)
    warn_about_ignored(settings)
    engine = Engine(settings)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waits = [asyncio.create_task(event.wait()) for event in (engine.ready, engine.exited)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if engine.ready.is_set():
        print(f"vllm-sim {settings.release.name} answers on {engine.url}", flush=True)
    waits = [asyncio.create_task(event.wait()) for event in (stop, engine.exited)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await engine.stop()
    return engine.exit_code or 0


def main(args: list[str]) -> int:
    """The process's exit code."""
    if "--help" in args or "-h" in args:
        make_parser(manual or "").print_help()
        return 0
    try:
        return asyncio.run(_run(args))
    except ArgumentsRefused as exc:
        print(f"vllm-sim: error: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
