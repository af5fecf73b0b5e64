"""Serve a folder's files, for the demo and by hand."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from e2e.stores.web.server import WebStore


def files_in(folder: Path) -> dict[str, bytes | Path]:
    """The files below a folder by their paths at the server."""
    return {f"/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}


async def _serve(folder: Path, port: int, token: str | None) -> None:
    store = WebStore(files_in(folder), token=token)
    store.port = port
    async with store:
        print(store.url(""), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.stores.web", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", help="what requests have to show as a bearer token")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments.folder, arguments.port, arguments.token))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
