"""The simulator as a process: `python -m e2e.vllm_sim --model tiny --enable-lora --port 8000`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace

from . import __doc__ as manual
from .arguments import ArgumentsRefused, make_parser, parse_arguments, warn_about_ignored
from .server import Engine


async def _run(args: list[str]) -> int:
    settings = parse_arguments(args, os.environ)
    warn_about_ignored(settings)
    engines = [Engine(replace(settings, port=settings.port + rank)) for rank in range(settings.ranks)]
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ended = [asyncio.create_task(engine.exited.wait()) for engine in engines]
    for engine in engines:
        ready = asyncio.create_task(engine.ready.wait())
        await asyncio.wait([ready, *ended], return_when=asyncio.FIRST_COMPLETED)
        if engine.ready.is_set():
            print(f"vllm-sim {settings.release.name} answers on {engine.url}", flush=True)
    await asyncio.wait([asyncio.create_task(stop.wait()), *ended], return_when=asyncio.FIRST_COMPLETED)
    exit_code = next((engine.exit_code or 0 for engine in engines if engine.exited.is_set()), 0)
    for engine in engines:  # of several ranks, all end with the first
        if not engine.exited.is_set():
            await engine.stop()
    return exit_code


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
