"""What a Hugging Face hub lists, and which adapters that is. Pure, and without the hub's client."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.base_name import check_base_name
from lora_operator.sources.base import SourceRequest
from lora_operator.sources.remote import RemoteFolder
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_troubles import Trouble

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ADAPTER_OF = "base_model:adapter:"


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit: its path in the repository, its size, git's id of its content, and the sha256 of its
    content where it is kept outside of git (else "")."""

    path: str
    size_bytes: int
    blob_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class HubPlace:
    """Where the hub serves one file from: the commit, the mark of the content (sha256 where it is kept outside of git,
    else git's id), and the URL of the content."""

    commit: str
    mark: str
    url: str


@dataclass(frozen=True, slots=True)
class HubRepository:
    """One repository: org/repo, its present commit, and its tags."""

    repository: str
    commit: str
    tags: tuple[str, ...] = ()


def fits_base(repository: HubRepository, request: SourceRequest) -> bool:
    """Whether the repository's tags say that it holds adapters of the request's base model."""
    for tag in repository.tags:
        if tag.startswith(_ADAPTER_OF):
            try:
                check_base_name(tag.removeprefix(_ADAPTER_OF), request.base_model, request.base_aliases)
            except AdapterRefused:
                continue
            return True
    return False


def folders_of(repository: str, files: Iterable[HubFile], endpoint: str) -> tuple[RemoteFolder, ...]:
    """The folders of a commit that hold something of an adapter: the root alone, if it does, else all others.

    A folder's location is org/repo or org/repo/path.
    """
    by_folder: dict[str, list[RemoteFile]] = defaultdict(list)
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if _is_plain(file.path):
            sha256 = file.sha256 if _SHA256.fullmatch(file.sha256) else ""
            by_folder[folder].append(RemoteFile(name, file.size_bytes, f"git:{file.blob_id[:64]}", sha256))
    holding = {
        folder: tuple(sorted(inside, key=lambda file: file.path))
        for folder, inside in by_folder.items()
        if any(file.path in (CONFIG_FILE, WEIGHTS_FILE) for file in inside)
    }
    if "" in holding:
        holding = {"": holding[""]}
    origin = f"huggingface\0{endpoint}\0{repository}"
    return tuple(
        RemoteFolder(location.rpartition("/")[2], location, inside, origin)
        for folder, inside in sorted(holding.items())
        for location in [f"{repository}/{folder}".rstrip("/")]
    )


def without_duplicates(folders: Iterable[RemoteFolder]) -> tuple[list[RemoteFolder], list[Trouble]]:
    """The folders whose names are theirs alone, and what to say of the other names."""
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


def _is_plain(path: str) -> bool:
    """Whether each part of the path is a name: hidden folders hold no adapters, and others may be a trick."""
    return path.isprintable() and "\\" not in path and all(part and part[0] != "." for part in path.split("/")[:-1])
