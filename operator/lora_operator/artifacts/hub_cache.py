"""The cache of the Hugging Face hub on a disk: `models--ORG--NAME` with a folder for each commit in `snapshots`, whose
files are links into `blobs`."""

from __future__ import annotations

import os
import re
from pathlib import Path

_REPOSITORY = re.compile(r"models--(?:.+?--)?(.+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40,64}", re.ASCII)
_REF_BYTES_MAX = 200


def repository_name(folder: Path) -> str:
    """What the repository is called of which `folder` is a snapshot; empty for any other folder."""
    match = _REPOSITORY.fullmatch(folder.parent.parent.name) if folder.parent.name == "snapshots" else None
    return match[1] if match is not None else ""


def snapshot_in(folder: Path) -> Path | None:
    """The snapshot of a cached repository that its branch `main` is at, else the newest; None for any other folder."""
    snapshots = folder / "snapshots"
    if not _REPOSITORY.fullmatch(folder.name) or not snapshots.is_dir():
        return None
    try:
        with (folder / "refs" / "main").open("rb") as file:
            commit = file.read(_REF_BYTES_MAX).decode("ascii", "replace").strip()
        if _COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
            return snapshots / commit
    except OSError:
        pass
    try:
        with os.scandir(snapshots) as entries:
            dated = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.is_dir()]
    except OSError:
        return None
    return snapshots / max(dated)[1] if dated else None


def blobs_of(folder: str) -> str | None:
    """Where the files of a snapshot, or of a folder in it, may be kept; None for any other folder. `folder` is a real
    path."""
    for place in Path(folder, "x").parents:
        if place.parent.name == "snapshots" and _REPOSITORY.fullmatch(place.parent.parent.name):
            return str(place.parent.parent / "blobs")
    return None
