"""The hub's two hosts: the API with its redirects, and the one that large files come from by signed links."""

from __future__ import annotations

import hmac
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from aiohttp import web

from e2e.stores.hub.refusals import refused
from e2e.stores.hub.repository import Blob, Repository
from e2e.stores.ranged import ranged

PAGE_ENTRIES = 1000
Entry = dict[str, object]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in at `host` (api or files). `token` is what it was made with."""

    host: str
    method: str
    path: str
    query: Mapping[str, str]
    token: str | None = field(repr=False)
    range: str = ""


class LocalHub:
    """Serves `repositories` on two free ports of 127.0.0.1 while it is entered.

    `tokens` are the valid ones; `script` holds answers for the next requests at the API, used up one by one; what has
    `link_seconds` passed since it was signed is refused. `page_entries` is how much a page of a list has.

    Other hubs than the first differ: one that `tells_first` answers HEAD by itself (200, marks without quotes) and only
    leads GET on; one that `gives_all` leads nobody on and sends large files itself, to who may see them.
    """

    def __init__(
        self, *repositories: Repository, tokens: frozenset[str] = frozenset(), clock: Callable[[], float] = time.time
    ) -> None:
        self.repositories = {repository.name: repository for repository in repositories}
        self.tokens = tokens
        self.script: deque[Callable[[web.Request], web.StreamResponse]] = deque()
        self.seen: list[Seen] = []
        self.link_seconds = 3600.0
        self.page_entries = PAGE_ENTRIES
        self.tells_first = self.gives_all = False
        self._clock = clock
        self._key = b"signs the links"
        self._runners: list[web.AppRunner] = []
        self._ports: list[int] = [0, 0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen: the API on `port`, files on a free one."""
        api, files = web.Application(middlewares=[self._watched]), web.Application()
        api.add_routes(
            [
                web.get("/api/models", self._models),
                web.get("/api/models/{org}/{repo}", self._model),
                web.get("/api/models/{org}/{repo}/revision/{revision:[^/]+}", self._model),
                web.get("/api/models/{org}/{repo}/tree/{revision:[^/]+}{end:/?}", self._tree),
                web.post("/api/models/{org}/{repo}/paths-info/{revision:[^/]+}", self._paths),
                web.get("/{org}/{repo}/resolve/{revision:[^/]+}/{path:.+}", self._file),
            ]
        )
        files.add_routes([web.get("/blobs/{mark}", self._blob)])
        for number, (application, wanted) in enumerate(((api, port), (files, 0))):
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", wanted).start()
            self._runners.append(runner)
            self._ports[number] = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close both hosts."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def files_url(self) -> str:
        """Where signed links lead."""
        return f"http://127.0.0.1:{self._ports[1]}"

    @web.middleware
    async def _watched(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.seen.append(_seen("api", request))
        if self.script:
            return self.script.popleft()(request)
        token = _token(request)
        if token is not None and token not in self.tokens:
            return refused(401, "", "Invalid credentials in Authorization header")
        return await handler(request)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        wanted = set(request.query.getall("filter", []))
        listed: list[Entry] = [
            {"id": each.name, "modelId": each.name, "sha": each.branches.get("main", ""), "tags": list(each.tags)}
            for each in self.repositories.values()
            if each.name.split("/")[0] == request.query.get("author")
            and wanted <= set(each.tags)
            and (each.readers is None or _token(request) in each.readers)
        ]
        return self._page(request, listed)

    async def _model(self, request: web.Request) -> web.StreamResponse:
        found = self._found(request)
        if isinstance(found, web.StreamResponse):
            return found
        repository, commit = found
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        whole = {"id": repository.name, "modelId": repository.name, "sha": commit, "siblings": siblings}
        expand = request.query.getall("expand", [])
        return web.json_response({key: value for key, value in whole.items() if not expand or key in ("id", *expand)})

    async def _tree(self, request: web.Request) -> web.StreamResponse:
        found = self._found(request)
        if isinstance(found, web.StreamResponse):
            return found
        repository, commit = found
        tree = repository.commits[commit]
        folders = sorted({path.rsplit("/", 1)[0] for path in tree if "/" in path})
        entries: list[dict[str, object]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders
        ]
        return self._page(
            request, entries + [blob.as_json(path, xet=repository.xet) for path, blob in sorted(tree.items())]
        )

    async def _paths(self, request: web.Request) -> web.StreamResponse:
        found = self._found(request)
        if isinstance(found, web.StreamResponse):
            return found
        repository, commit = found
        tree, wanted = repository.commits[commit], map(str, (await request.post()).getall("paths", []))
        return web.json_response([tree[path].as_json(path, xet=repository.xet) for path in wanted if path in tree])

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._found(request)
        if isinstance(found, web.StreamResponse):
            return found
        repository, commit = found
        blob = repository.commits[commit].get(request.match_info["path"])
        if blob is None:
            return refused(404, "EntryNotFound", "Entry not found")
        if repository.gated and _token(request) not in repository.accepted:
            status = 401 if _token(request) is None else 403
            return refused(status, "GatedRepo", f"Access to model {repository.name} is restricted.")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.mark}"'}
        if self.tells_first and request.method == "HEAD":
            told = {"X-Repo-Commit": commit, "X-Linked-ETag": blob.mark, "ETag": blob.mark}
            return web.Response(headers=told | {"Content-Length": str(len(blob.content))})
        if self.gives_all or not (blob.large or self.tells_first):
            return ranged(request, blob.content, headers)
        return web.Response(
            status=302,
            headers={
                "X-Repo-Commit": commit,
                "X-Linked-ETag": f'"{blob.mark}"',
                "X-Linked-Size": str(len(blob.content)),
                "Location": self._signed(blob),
                **({"X-Xet-Hash": blob.xet_hash} if repository.xet else {}),
            },
        )

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(_seen("files", request))
        mark, expires = request.match_info["mark"], request.query.get("Expires", "0")
        if request.query.get("Signature") != self._signature(mark, expires) or float(expires) < self._clock():
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>", content_type="text/xml")
        for repository in self.repositories.values():
            for tree in repository.commits.values():
                for blob in tree.values():
                    if blob.mark == mark:
                        return ranged(request, blob.content, {"ETag": f'"of-the-store-{mark[:8]}"'})
        return web.Response(status=404)

    def _found(self, request: web.Request) -> tuple[Repository, str] | web.StreamResponse:
        repository = self.repositories.get(f"{request.match_info['org']}/{request.match_info['repo']}")
        token = _token(request)
        if repository is None or (repository.readers is not None and token not in repository.readers):
            if token is None:  # the hub does not say which of the two it is
                return refused(401, "RepoNotFound", "Invalid username or password.")
            return refused(404, "RepoNotFound", "Repository not found")
        if repository.disabled:
            return refused(403, "", "Access to this resource is disabled.")
        revision = request.match_info.get("revision", "main")
        commit = repository.at(revision)
        if commit is None:
            return refused(404, "RevisionNotFound", f"Invalid rev id: {quote(revision)}")
        return repository, commit

    def _page(self, request: web.Request, entries: list[Entry]) -> web.StreamResponse:
        begin = int(request.query.get("cursor", 0))
        headers = {}
        if begin + self.page_entries < len(entries):
            query = [(key, value) for key, value in request.query.items() if key != "cursor"]
            following = urlencode([*query, ("cursor", str(begin + self.page_entries))])
            headers["Link"] = f'<{self.url}{request.path}?{following}>; rel="next"'
        body = json.dumps(entries[begin : begin + self.page_entries])
        return web.Response(text=body, content_type="application/json", headers=headers)

    def _signed(self, blob: Blob) -> str:
        expires = str(int(self._clock() + self.link_seconds))
        return f"{self.files_url}/blobs/{blob.mark}?" + urlencode(
            {"Expires": expires, "Signature": self._signature(blob.mark, expires)}
        )

    def _signature(self, mark: str, expires: str) -> str:
        return hmac.new(self._key, f"{mark} {expires}".encode(), sha256).hexdigest()


def _token(request: web.BaseRequest) -> str | None:
    header = request.headers.get("Authorization", "")
    return header.removeprefix("Bearer ") if header else None


def _seen(host: str, request: web.BaseRequest) -> Seen:
    query = dict(request.query)
    return Seen(host, request.method, request.path, query, _token(request), request.headers.get("Range", ""))
