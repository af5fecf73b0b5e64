"""`python -m e2e.stores.proxy NAME=FILE … [--bytes-per-second N]`: prints its port, serves until it is ended."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from e2e.stores.proxy.server import FaultyStore


async def serve(files: dict[str, bytes | Path], bytes_per_second: float | None) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with FaultyStore(files, bytes_per_second=bytes_per_second) as store:
        print(store.port, flush=True)
        await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.stores.proxy", description="Serves files at a limited rate.")
    parser.add_argument("files", nargs="+", metavar="NAME=FILE", help="serve FILE at /NAME")
    parser.add_argument("--bytes-per-second", type=float, help="what all connections together get (default: no limit)")
    parsed = parser.parse_args()
    files: dict[str, bytes | Path] = {}
    for named in parsed.files:
        name, _, path = named.partition("=")
        files[f"/{name}"] = Path(path)
    asyncio.run(serve(files, parsed.bytes_per_second))


if __name__ == "__main__":
    main()
