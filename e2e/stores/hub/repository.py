"""A repository of the local hub: commits that never change, and branches that point at them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content. Large files are kept outside of git, under their sha256."""

    content: bytes = field(repr=False)
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_id(self) -> str:
        content = self._pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def mark(self) -> str:
        """What the hub gives as the ETag: the sha256 of large files, git's id of others."""
        return self.sha256 if self.large else self.git_id

    @property
    def xet_hash(self) -> str:
        """What stands for the content in Xet storage."""
        return hashlib.sha256(b"xet" + self.content).hexdigest()

    def as_json(self, path: str, *, xet: bool) -> dict[str, object]:
        """The entry of a tree, as the hub writes it."""
        entry: dict[str, object] = {"type": "file", "oid": self.git_id, "size": len(self.content), "path": path}
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self._pointer)}
            if xet:
                entry["xetHash"] = self.xet_hash
        return entry

    @property
    def _pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )


@dataclass
class Repository:
    """`readers` are the tokens that may see it, None for everybody. A `gated` one shows its list to all, and its files
    to the tokens in `accepted`. `large_suffixes`: which files are kept outside of git; with `xet` the hub says that
    they can also be had by that protocol, which this one does not speak."""

    name: str
    readers: frozenset[str] | None = None
    gated: bool = False
    accepted: frozenset[str] = frozenset()
    disabled: bool = False
    xet: bool = True
    tags: tuple[str, ...] = ("peft", "safetensors")
    large_suffixes: tuple[str, ...] = LARGE_SUFFIXES
    commit_hash: str = "sha1"  # what commits are called by
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit that holds exactly `files`, and let `branch` point at it. Returns its id."""
        tree = {path: Blob(content, path.endswith(self.large_suffixes)) for path, content in files.items()}
        text = repr((self.name, len(self.commits), sorted((path, blob.mark) for path, blob in tree.items())))
        commit = hashlib.new(self.commit_hash, text.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = tree
        self.branches[branch] = commit
        return commit

    def at(self, revision: str) -> str | None:
        """The commit that a branch, tag or commit id means."""
        return revision if revision in self.commits else self.branches.get(revision)
