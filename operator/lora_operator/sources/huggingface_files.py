"""What a Hugging Face hub lists, and which adapters that is. Pure, and without the hub's client."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lora_operator.artifacts import AdapterRefused
from lora_operator.artifacts.base_name import check_base_name
from lora_operator.sources.base import SourceRequest
from lora_operator.sources.remote import RemoteFolder
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_tree import tree_folders

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
    """The folders of a commit that hold something of an adapter (see `tree_folders`).

    A folder's location is org/repo or org/repo/path.
    """

    def split(file: HubFile) -> tuple[str, RemoteFile]:
        folder, _, name = file.path.rpartition("/")
        sha256 = file.sha256 if _SHA256.fullmatch(file.sha256) else ""
        return folder, RemoteFile(name, file.size_bytes, f"git:{file.blob_id[:64]}", sha256)

    return tree_folders(
        map(split, files),
        root=repository,
        root_name=repository.rpartition("/")[2],
        origin=f"huggingface\0{endpoint}\0{repository}",
    )
