"""What clients of the hub see of an adapter: its versions as commits, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from lora_library import partials
from lora_library.catalogue.reading import versions_in, visible, with_their_own
from lora_library.database import Database
from lora_library.hub.naming import CARD_FILE, blob_id, commit_of, digest, hub_name
from lora_library.model import ACTIVE, Lora, Principal, Version
from lora_library.names import object_prefix
from lora_library.problems import Problem
from lora_library.tables import LORAS

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit: in the store under `key`, else its `content` is here. `mark` is its ETag."""

    path: str
    size_bytes: int
    mark: str
    key: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    commit: str
    entries: Mapping[str, Entry]
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """`lora` is None where there is no whole adapter yet. `versions`: the newest first."""

    full_name: str
    owner: str
    name: str
    lora: Lora | None
    versions: Sequence[Version]
    unfinished: Sequence[partials.Partial] = ()

    def main(self) -> Snapshot:
        """What is served now; nothing where there is no whole adapter yet. Raises Problem (QUARANTINED)."""
        if self.lora is None:
            return Snapshot(digest(f"{self.full_name} {[each.id for each in self.unfinished]}"), {})
        if self.lora.state != ACTIVE:
            raise Problem("QUARANTINED", f"{self.full_name} is {self.lora.state}: a scan has not found it clean")
        current = next(each for each in self.versions if each.number == self.lora.current)
        return self._snapshot(self.lora, current)

    def at(self, revision: str) -> Snapshot:
        """`revision`: main, a commit, or a version as v2. Raises Problem: REVISION_NOT_FOUND, QUARANTINED."""
        if revision == MAIN:
            return self.main()
        if self.lora is None and self.main().commit == revision:
            return self.main()
        if self.lora is not None:
            for each in self.versions:
                if each.state == ACTIVE and revision in (commit_of(self.lora.id, each), f"v{each.number}"):
                    return self._snapshot(self.lora, each)
        raise Problem(
            "REVISION_NOT_FOUND",
            f"{self.full_name} has no revision {revision[:60]!r}: there is main, and of each version that is kept a "
            "commit and v1, v2 and so on",
        )

    def _snapshot(self, lora: Lora, version: Version) -> Snapshot:
        prefix = object_prefix(lora.owner, version.object_id)
        entries = {
            each["path"]: Entry(each["path"], each["size_bytes"], each["sha256"], f"{prefix}/{each['path']}")
            for each in version.files
        }
        if version.card:
            content = version.card.encode()
            entries[CARD_FILE] = Entry(CARD_FILE, len(content), blob_id(content), content=content)
        return Snapshot(commit_of(lora.id, version), entries, version)


async def find(database: Database, principal: Principal, owner: str, name: str, now: float) -> Repository | None:
    """The repository `owner`/`name`, if there is one that the principal may see."""
    query = select(LORAS).where(LORAS.c.name == name, visible(principal), LORAS.c.deleted_at.is_(None))
    async with database.reading() as connection:
        rows = (await connection.execute(query)).mappings().all()
        rows = [row for row in rows if hub_name(row["owner"]) == owner]
        for lora in await with_their_own(connection, rows, principal):
            versions = await versions_in(connection, [lora.id])
            return Repository(f"{owner}/{name}", lora.owner, name, lora, versions)
    if hub_name(principal.subject) != owner:
        return None
    unfinished = await partials.find(
        database, now, owner=principal.subject, purposes=(partials.REPOSITORY, partials.DRAFT), name=name
    )
    if not unfinished:
        return None
    return Repository(f"{owner}/{name}", principal.subject, name, None, (), unfinished)
