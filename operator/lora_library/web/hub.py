"""The hub's API for clients of Hugging Face: who one is, repositories, and reading them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from lora_library.catalogue import changing, reading
from lora_library.hub import repositories
from lora_library.hub.naming import commit_of, hub_name
from lora_library.hub.repositories import Entry, Repository, Snapshot
from lora_library.model import ACTIVE, Lora, Principal
from lora_library.names import check_name
from lora_library.partials import REPOSITORY, Wish, begin, drop
from lora_library.problems import Problem
from lora_library.web import answers
from lora_library.web.context import Asking, Library, With

ROUTES = APIRouter()
Owner = Annotated[str, Path(max_length=96)]
Name = Annotated[str, Path(max_length=200)]
Revision = Annotated[str, Path(max_length=200)]
MOST_LISTED = 500


class Named(BaseModel):
    """A repository, as creating and deleting name it. There are models only, and all are private until shared."""

    model_config = ConfigDict(extra="ignore")
    name: str
    organization: str | None = None
    type: str = "model"


@ROUTES.get("/api/whoami-v2")
async def whoami(principal: Asking) -> dict[str, Any]:
    """`name` is what one's repositories begin with."""
    return {
        "type": "user", "id": hub_name(principal.subject), "name": hub_name(principal.subject),
        "fullname": principal.subject, "isPro": False, "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": "library", "role": "write"}},
    }  # fmt: skip


@ROUTES.post("/api/validate-yaml")
async def validate_yaml(_: Asking) -> dict[str, Any]:
    """The card is kept as it is."""
    return {"errors": [], "warnings": []}


@ROUTES.post("/api/repos/create")
async def create(named: Named, request: Request, library: With, principal: Asking) -> Response:
    """Takes note of a name. It becomes an adapter by the first commit that has a whole one."""
    owner = _own(named, principal)
    check_name(named.name)
    url = f"{base_of(request, library)}/{owner}/{named.name}"
    now = library.clock()
    if await repositories.find(library.database, principal, owner, named.name, now) is not None:
        raise Problem("NAME_TAKEN", f"there is {owner}/{named.name} already", url=url)
    await begin(library.database, principal.subject, Wish(REPOSITORY, 0, named.name), library.limits, now)
    return JSONResponse({"url": url, "name": f"{owner}/{named.name}", "id": f"{owner}/{named.name}"})


@ROUTES.delete("/api/repos/delete")
async def delete(named: Annotated[Named, Body()], library: With, principal: Asking) -> dict[str, Any]:
    """As `DELETE /api/loras/{id}`: it can be restored for a while."""
    found = await repository_of(library, principal, named.organization or hub_name(principal.subject), named.name)
    if found.lora is not None:
        await changing.remove(library.database, principal, found.lora.id, library.limits, library.clock())
        await library.uploads.tell(principal.subject)
    await drop(library.database, found.unfinished, library.clock())
    return {}


@ROUTES.get("/api/models")
async def models(
    library: With,
    principal: Asking,
    author: Annotated[str, Query(max_length=96)] = "",
    search: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = MOST_LISTED,
) -> list[dict[str, Any]]:
    """Adapters that one may call, 500 at most."""
    listing = reading.Listing(search.replace("\0", ""), limit=MOST_LISTED, mine=author == hub_name(principal.subject))
    found, _ = await reading.find(library.database, principal, listing)
    listed = []
    for lora in found:
        if lora.state == ACTIVE and author in ("", hub_name(lora.owner)):
            full_name = f"{hub_name(lora.owner)}/{lora.name}"
            versions = await reading.versions(library.database, lora.id)
            repository = Repository(full_name, lora.owner, lora.name, lora, versions)
            listed.append(_info(repository, repository.main()))
    return listed[:limit]


@ROUTES.get("/api/models/{owner}/{name}")
async def model(owner: Owner, name: Name, library: With, principal: Asking) -> dict[str, Any]:
    """What there is of a repository."""
    found = await repository_of(library, principal, owner, name)
    return _info(found, found.main())


@ROUTES.get("/api/models/{owner}/{name}/revision/{revision:path}")
async def model_at(owner: Owner, name: Name, revision: Revision, library: With, principal: Asking) -> dict[str, Any]:
    """The same, of one revision."""
    found = await repository_of(library, principal, owner, name)
    return _info(found, found.at(revision))


@ROUTES.get("/api/models/{owner}/{name}/refs")
async def refs(owner: Owner, name: Name, library: With, principal: Asking) -> dict[str, Any]:
    """One branch, and a tag for each version that is kept."""
    found = await repository_of(library, principal, owner, name)
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.main().commit}
    tags = [
        {"name": f"v{each.number}", "ref": f"refs/tags/v{each.number}", "targetCommit": commit_of(found.lora.id, each)}
        for each in found.versions
        if found.lora is not None and each.state == ACTIVE
    ]
    return {"branches": [main], "tags": tags, "converts": [], "pullRequests": []}


@ROUTES.get("/api/models/{owner}/{name}/commits/{revision:path}")
async def commits(
    owner: Owner, name: Name, revision: Revision, library: With, principal: Asking
) -> list[dict[str, Any]]:
    """The versions up to that one, the newest first."""
    found = await repository_of(library, principal, owner, name)
    at = found.at(revision).version
    return [
        {
            "id": commit_of(found.lora.id, each), "title": f"Version {each.number}", "message": "",
            "date": answers.moment(each.created_at), "authors": [{"user": hub_name(each.created_by)}],
        }
        for each in found.versions
        if found.lora is not None and at is not None and each.number <= at.number and each.state == ACTIVE
    ]  # fmt: skip


@ROUTES.get("/api/models/{owner}/{name}/tree/{revision}")
@ROUTES.get("/api/models/{owner}/{name}/tree/{revision}/{path:path}")
async def tree(
    owner: Owner, name: Name, revision: Revision, library: With, principal: Asking, path: str = ""
) -> list[dict[str, Any]]:
    """The files of a revision. There are no folders."""
    if path:
        raise Problem("ENTRY_NOT_FOUND", f"there is no folder {path[:100]!r}: the files of an adapter are at the root")
    found = await repository_of(library, principal, owner, name)
    return [_entry(each) for each in found.at(revision).entries.values()]


@ROUTES.post("/api/models/{owner}/{name}/paths-info/{revision:path}")
async def paths_info(
    owner: Owner, name: Name, revision: Revision, request: Request, library: With, principal: Asking
) -> list[dict[str, Any]]:
    """Those of some files that there are."""
    found = await repository_of(library, principal, owner, name)
    form = await request.form(max_files=0, max_fields=1000)
    wanted = {str(each) for each in form.getlist("paths")}
    return [_entry(each) for path, each in found.at(revision).entries.items() if path in wanted]


@ROUTES.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve(
    owner: Owner, name: Name, revision: Revision, path: str, request: Request, library: With, principal: Asking
) -> Response:
    """A file, or what is to be known of it before it is read."""
    found = await repository_of(library, principal, owner, name)
    snapshot = found.at(revision)
    commit = {"X-Repo-Commit": snapshot.commit}
    entry = snapshot.entries.get(path)
    if entry is None:
        problem = Problem("ENTRY_NOT_FOUND", f"there is no file {path[:100]!r} in {found.full_name}")
        problem.headers = commit
        raise problem
    headers = {**commit, "ETag": f'"{entry.mark}"', "Content-Type": "application/octet-stream"}
    headers["Content-Disposition"] = f'attachment; filename="{entry.path}"'
    if entry.key:
        headers |= {"X-Linked-Size": str(entry.size_bytes), "X-Linked-Etag": f'"{entry.mark}"'}
    if request.method == "HEAD":
        return Response(headers={**headers, "Accept-Ranges": "bytes", "Content-Length": str(entry.size_bytes)})
    if not entry.key:
        return Response(entry.content, headers=headers)
    await library.note_download(principal, found.lora, path)
    return await library.downloads.answer(
        library.store, entry.key, entry.size_bytes, principal.subject, headers, request.headers.get("Range")
    )


async def repository_of(library: Library, principal: Principal, owner: str, name: str) -> Repository:
    """Raises Problem (LORA_NOT_FOUND), for what is another's too."""
    found = None
    if "\0" not in owner + name:
        found = await repositories.find(library.database, principal, owner, name, library.clock())
    if found is None:
        raise Problem("LORA_NOT_FOUND", f"there is no repository {f'{owner}/{name}'[:200]!r} that you may see")
    return found


def base_of(request: Request, library: Library) -> str:
    """Where the client has this service."""
    if library.public_url:
        return library.public_url.rstrip("/")
    scheme = request.headers.get("X-Forwarded-Proto", request.url.scheme).split(",")[0].strip()
    return f"{'https' if scheme == 'https' else 'http'}://{request.headers.get('Host', request.url.netloc)}"


def own_of(owner: str, principal: Principal) -> str:
    """Raises Problem (FORBIDDEN) where a repository is to be another's."""
    if owner != hub_name(principal.subject):
        raise Problem("FORBIDDEN", f"your repositories are called {hub_name(principal.subject)}/NAME")
    return owner


def _own(named: Named, principal: Principal) -> str:
    if named.type != "model":
        raise Problem("INVALID_REQUEST", "there are models only")
    return own_of(named.organization or hub_name(principal.subject), principal)


def _entry(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "path": entry.path, "size": entry.size_bytes, "oid": entry.mark[:40]}
    if entry.key:
        told["lfs"] = {"oid": entry.mark, "size": entry.size_bytes, "pointerSize": 134}
    return told


def _info(repository: Repository, snapshot: Snapshot) -> dict[str, Any]:
    lora = repository.lora
    siblings = []
    for each in snapshot.entries.values():
        told = {"rfilename": each.path, "size": each.size_bytes, "blobId": each.mark[:40]}
        lfs = {"lfs": {"sha256": each.mark, "size": each.size_bytes, "pointerSize": 134}} if each.key else {}
        siblings.append(told | lfs)
    info: dict[str, Any] = {
        "id": repository.full_name, "modelId": repository.full_name, "author": repository.full_name.split("/")[0],
        "sha": snapshot.commit, "private": True, "disabled": False, "gated": False, "downloads": 0, "likes": 0,
        "library_name": "peft", "siblings": siblings, "tags": [],
    }  # fmt: skip
    return info if lora is None else info | _said(lora)


def _said(lora: Lora) -> dict[str, Any]:
    base = [f"base_model:{lora.base_model}", f"base_model:adapter:{lora.base_model}"]
    return {
        "tags": ["peft", "safetensors", "lora", *base, *lora.tags],
        "createdAt": answers.moment(lora.created_at),
        "lastModified": answers.moment(lora.updated_at),
        "cardData": {"base_model": lora.base_model, "library_name": "peft"},
    }
