"""Serve folders as repositories: FOLDER/org/repo/… is org/repo, with one commit. For the demo and by hand."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from e2e.stores.hub.repository import Repository
from e2e.stores.hub.server import LocalHub


def repositories_in(folder: Path) -> list[Repository]:
    """A repository for each FOLDER/org/repo."""
    found = []
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        repository = Repository(str(place.relative_to(folder)), xet=False)
        repository.commit(
            {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        )
        found.append(repository)
    return found


async def _serve(folder: Path, port: int) -> None:
    hub = LocalHub(*repositories_in(folder))
    await hub.start(port)
    print(hub.url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await hub.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.stores.hub", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments.folder, arguments.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
