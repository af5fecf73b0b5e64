"""Files in folders of any depth, as repositories and archives have them: which adapters' folders they make up. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.sources.remote import RemoteFolder
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_troubles import Trouble


def tree_folders(
    files: Iterable[tuple[str, RemoteFile]], *, root: str, root_name: str, origin: str
) -> tuple[RemoteFolder, ...]:
    """The folders that hold something of an adapter, sorted. If the root does, all others are below it.

    `files` are (folder, file), the folder "" for the root. A folder's location is `root`, '/' and its path; its name
    is the last part of that, or `root_name`. Hidden folders and paths that may be a trick count for nothing.
    """
    by_folder: dict[str, list[RemoteFile]] = defaultdict(list)
    for folder, file in files:
        if is_plain(folder):
            by_folder[folder].append(file)
    holding = {
        folder: tuple(sorted(inside, key=lambda file: file.path))
        for folder, inside in by_folder.items()
        if any(file.path in (CONFIG_FILE, WEIGHTS_FILE) for file in inside)
    }
    below = "" in holding
    first = (RemoteFolder(root_name, root, holding.pop(""), origin),) if below else ()
    return first + tuple(
        RemoteFolder(folder.rpartition("/")[2], f"{root}/{folder}".lstrip("/"), inside, origin, below)
        for folder, inside in sorted(holding.items())
    )


def without_duplicates(folders: Iterable[RemoteFolder]) -> tuple[list[RemoteFolder], list[Trouble]]:
    by_name: dict[str, list[RemoteFolder]] = defaultdict(list)
    for folder in folders:
        by_name[folder.name].append(folder)
    troubles = [
        Trouble(
            name,
            "DuplicateName",
            f"{len(same)} folders are called {name[:128]!r} ({', '.join(each.location[:100] for each in same[:3])}"
            f"{', …' if len(same) > 3 else ''}): an adapter is called like its folder, so rename all but one",
        )
        for name, same in by_name.items()
        if len(same) > 1
    ]
    return [same[0] for same in by_name.values() if len(same) == 1], troubles


def is_plain(folder: str) -> bool:
    """Whether each part of the path is a name that is not hidden."""
    return not folder or (
        folder.isprintable() and "\\" not in folder and all(part and part[0] != "." for part in folder.split("/"))
    )
