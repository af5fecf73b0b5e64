"""The few calls to the Kubernetes API that operator and routers make.

Bodies are plain JSON: what is read is a small part of each object, and typed models would cost more than they give.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import ClientResponse, ClientTimeout
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from lora_operator.api.well_known import ENDPOINTS, FINALIZER, GROUP, PLURAL, VERSION
from lora_operator.kube.connections import another, client_of

FIELD_MANAGER = "lora-operator"
REQUEST_SECONDS = 5.0  # what is not answered by then is asked for, or written, again
LIST_SECONDS = 60.0
RECORD_SECONDS = 3.0  # somebody waits for it
LOOK_SECONDS = 3.0
OPTIONAL = ("/nodes/", "/secrets/")  # what may be refused for good
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TOO_MANY = 429
READS_AT_A_TIME = 64  # below what the client's pool takes: nothing waits in there while its time-out runs
OPENED = "OPENED"

Json = dict[str, Any]


class KubeError(Exception):
    """The API server refused or could not be asked. `status` is the HTTP status, 0 where there was no answer.

    `retry_after_seconds` is what it asked for itself, 0 if it did not.
    """

    def __init__(self, status: int, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Silent(KubeError):
    """A watch says nothing any more, not even that it ends."""


class Kube:
    """A thin, JSON-only client for what the operator reads and writes.

    `fence` is called before each write but those that any replica may do, and raises to refuse it; `back` when a watch
    hears something after it was cut off. `refused` is set when a right or the CRD may be missing.
    """

    def __init__(
        self, client: ApiClient, *, fence: Callable[[], None] = lambda: None, back: Callable[[], None] = lambda: None,
        refused: asyncio.Event | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._reads = asyncio.Semaphore(READS_AT_A_TIME)
        self._fence = fence
        self.back = back
        self.refused = refused or asyncio.Event()

    @classmethod
    async def connect(cls, kubeconfig: str = "") -> Kube:
        """Use `kubeconfig` if given, else the pod's own account, else KUBECONFIG or the usual file.

        Raises:
            KubeError: no usable configuration was found.
        """
        configuration = Configuration()
        try:
            if kubeconfig:
                await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            else:
                try:
                    config.load_incluster_config(client_configuration=configuration)
                except config.ConfigException:
                    await config.load_kube_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise KubeError(0, f"no usable Kubernetes configuration: {error}; give --kubeconfig FILE") from error
        return cls(client_of(configuration))

    def with_own_connections(self) -> Kube:
        """Another client, to be closed by itself, whose requests never wait behind or on a connection of this one."""
        return Kube(another(self._client), refused=self.refused)

    def fenced(self, fence: Callable[[], None], back: Callable[[], None] = lambda: None) -> Kube:
        """The same connections, for one who has to lead to write."""
        return Kube(self._client, fence=fence, back=back, refused=self.refused)

    async def close(self) -> None:
        await self._client.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float | None = None,
        fenced: bool = True,
    ) -> Json:
        """One request; `fenced` is what only a leader may write. Raises KubeError."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        timeout = timeout or REQUEST_SECONDS
        if method != "GET" and fenced:
            self._fence()
        try:
            async with self._reads if method == "GET" else contextlib.nullcontext(), asyncio.timeout(timeout):
                method_, url, headers_, body_, _ = await self._client.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(method_, url, headers_, body_, _request_timeout=timeout)
                text = await response.read()
        except TimeoutError as error:
            raise KubeError(0, f"{method} {path}: no answer within {timeout:g} s") from error
        except OSError as error:
            raise KubeError(0, f"{method} {path}: {error}") from error
        except Exception as error:
            # aiohttp raises its own tree for a connection that breaks in the middle, and a token that is being renewed
            # may not be readable: all of it means "no answer"
            raise KubeError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        if response.status >= 400:
            # 500 is what a status gets that has fields which the definition does not know
            missed = response.status in (403, 500) or (
                response.status == 404 and path.endswith((f"/{PLURAL}", f"/{ENDPOINTS}"))
            )
            if missed and not any(one in path for one in OPTIONAL):
                self.refused.set()
            raise KubeError(
                response.status, f"{method} {path}: {response.status} {_message(text)}",
                _seconds(response.headers.get("Retry-After")),
            )  # fmt: skip
        try:
            return dict(json.loads(text)) if text else {}
        except (ValueError, TypeError) as error:
            raise KubeError(0, f"{method} {path}: the answer is not JSON; is there a proxy on the way?") from error

    @staticmethod
    def _resource(namespace: str, name: str, subresource: str = "") -> str:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"
        return f"{path}/{subresource}" if subresource else path

    async def _list(self, paths: list[str]) -> tuple[list[Json], str]:
        items: list[Json] = []
        version = ""
        for path in paths:
            async with contextlib.aclosing(self.pages(path, {"limit": "500"}, LIST_SECONDS)) as pages:
                async for page in pages:
                    items += page.get("items") or []
                    version = version or str((page.get("metadata") or {}).get("resourceVersion") or "")
        return items, version

    async def pages(self, path: str, query: Mapping[str, str], timeout: float) -> AsyncGenerator[Json]:
        """A list, page by page; `timeout` is that of one page. Raises KubeError: 410 if it took too long to read."""
        token = ""
        while True:
            page = await self.call(
                "GET", path, query={**query, **({"continue": token} if token else {})}, timeout=timeout
            )
            token = (page.get("metadata") or {}).get("continue") or ""
            yield page
            if not token:
                return

    async def watch(
        self, path: str, query: Mapping[str, str], *, seconds: float, silent_seconds: float
    ) -> AsyncGenerator[Json]:
        """What changes, as the API server tells it: objects with `type` and `object`; the first is OPENED alone. The
        server ends it after `seconds`.

        Raises:
            Silent: nothing came for `silent_seconds`, which should be more than those.
            KubeError: it was refused, or broke off.
        """
        query = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(int(seconds))}
        try:
            async with asyncio.timeout(silent_seconds):
                method, url, headers, _, _ = await self._client.param_serialize(
                    "GET", path, query_params=list(query.items()), header_params={"Accept": "application/json"},
                    auth_settings=["BearerToken"],
                )  # fmt: skip
                response = await self._client.call_api(method, url, headers, _request_timeout=ClientTimeout())
            async with contextlib.aclosing(_lines(response.response)) as lines:
                if response.status >= 400:
                    async with asyncio.timeout(silent_seconds):
                        text = b"".join([line async for line in lines])
                    if response.status in (403, 404):
                        self.refused.set()
                    raise KubeError(response.status, f"watching {path}: {response.status} {_message(text)}")
                yield {"type": OPENED}
                while True:
                    async with asyncio.timeout(silent_seconds):
                        line = await anext(lines, None)
                    if line is None:
                        return
                    yield dict(json.loads(line))
        except KubeError:
            raise
        except TimeoutError as error:
            raise Silent(0, f"watching {path}: nothing was heard for {silent_seconds:g} s") from error
        except Exception as error:  # as in call
            raise KubeError(0, f"watching {path}: {type(error).__name__}: {error}") from error

    async def version(self) -> Json:
        """What the API server says about itself: `gitVersion`, `major`, `minor`. Raises KubeError."""
        return await self.call("GET", "/version", timeout=LOOK_SECONDS)

    async def serves(self, group: str, version: str, plural: str) -> bool:
        """Whether there is such a resource. Raises KubeError."""
        try:
            found = await self.call("GET", f"/apis/{group}/{version}", timeout=LOOK_SECONDS)
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return any(one.get("name") == plural for one in found.get("resources") or [])

    async def schemas(self, group: str, version: str) -> Json:
        """The OpenAPI schemas of an API group by their full names; none if they are not published (yet).

        Raises:
            KubeError: they could not be read.
        """
        try:
            document = await self.call("GET", f"/openapi/v3/apis/{group}/{version}", timeout=LOOK_SECONDS)
        except KubeError as error:
            if error.status == 404:
                return {}
            raise
        return dict((document.get("components") or {}).get("schemas") or {})

    async def may(self, attributes: Json) -> bool:
        """Whether we have this right, as `resourceAttributes` of a SelfSubjectAccessReview. Raises KubeError."""
        spec = {"resourceAttributes": attributes}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self.call("POST", path, body=body, timeout=LOOK_SECONDS, fenced=False)  # changes nothing
        return bool((answer.get("status") or {}).get("allowed"))

    async def list_adapters(self, namespaces: tuple[str, ...]) -> tuple[list[Json], str]:
        """All LoraAdapters, and the resource version from which on they may be out of date."""
        base = f"/apis/{GROUP}/{VERSION}"
        return await self._list([f"{base}/namespaces/{n}/{PLURAL}" for n in namespaces] or [f"{base}/{PLURAL}"])

    async def list_endpoints(self, namespaces: tuple[str, ...]) -> tuple[list[Json], str]:
        """All LoraEndpoints, and the resource version from which on they may be out of date."""
        base = f"/apis/{GROUP}/{VERSION}"
        return await self._list([f"{base}/namespaces/{n}/{ENDPOINTS}" for n in namespaces] or [f"{base}/{ENDPOINTS}"])

    async def list_pods(self, namespaces: tuple[str, ...]) -> tuple[list[Json], str]:
        """All pods, and the resource version from which on they may be out of date."""
        return await self._list([f"/api/v1/namespaces/{n}/pods" for n in namespaces] or ["/api/v1/pods"])

    async def node(self, name: str) -> Json:
        return await self.call("GET", f"/api/v1/nodes/{name}")

    async def secret(self, namespace: str, name: str) -> Json:
        return await self.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")

    async def config_map(self, namespace: str, name: str) -> Json:
        return await self.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    async def merge_config_map(self, namespace: str, name: str, data: Mapping[str, str | None]) -> Json:
        """Set these keys (None removes one) and no others; make the ConfigMap if there is none. Whoever leads or not.

        Raises KubeError: 404 if it is not there and may not be made either.
        """
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        change: Json = {"data": dict(data)}
        kept = {key: value for key, value in data.items() if value is not None}
        new: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": kept}
        while True:
            try:
                return await self.call(
                    "PATCH", f"{path}/{name}", body=change, content_type=MERGE, timeout=RECORD_SECONDS, fenced=False
                )
            except KubeError as error:
                if error.status != 404:
                    raise
                missing = error
            try:
                return await self.call("POST", path, body=new, timeout=RECORD_SECONDS, fenced=False)
            except KubeError as error:
                if error.status == 403:
                    raise missing from error
                if error.status != 409:  # somebody was faster: then it is there now
                    raise

    async def remove_keys(self, namespace: str, name: str, keys: Iterable[str], version: str) -> None:
        """Remove keys of exactly this version of a ConfigMap. Raises KubeError: 409 if it is another one by now."""
        body = {"metadata": {"resourceVersion": version}, "data": dict.fromkeys(keys)}
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        await self.call("PATCH", path, body=body, content_type=MERGE)

    async def apply_status(self, namespace: str, name: str, uid: str, status: Json) -> Json:
        """Server-side apply of the whole status. The uid makes it fail, not create, where the object is another one."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "LoraAdapter",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = self._resource(namespace, name, "status")
        return await self.call("PATCH", path, query=query, body=body, content_type=APPLY)

    async def apply_endpoint(self, namespace: str, name: str, body: Json) -> Json:
        """Server-side apply of a whole LoraEndpoint; it is created where there is none."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{ENDPOINTS}/{name}"
        return await self.call("PATCH", path, query=query, body=body, content_type=APPLY)

    async def add_finalizer(self, namespace: str, name: str, uid: str, known: Sequence[str]) -> Json:
        """Add ours to the finalizers that are `known`. Raises KubeError: 422 if there are others by now."""
        where = "/metadata/finalizers"
        add: Json = {"op": "add", "path": f"{where}/-", "value": FINALIZER}
        if not known:
            add |= {"path": where, "value": [FINALIZER]}
        test = {"op": "test", "path": where, "value": list(known) or None}
        return await self._patch_metadata(namespace, name, uid, [test, add])

    async def remove_finalizer(self, namespace: str, name: str, uid: str, known: Sequence[str]) -> Json:
        """Take ours out of the finalizers that are `known`, whoever put it there: server-side apply removes only what
        its manager owns alone. Raises KubeError: 422 if there are others by now."""
        where = f"/metadata/finalizers/{known.index(FINALIZER)}"
        patch = [{"op": "test", "path": where, "value": FINALIZER}, {"op": "remove", "path": where}]
        return await self._patch_metadata(namespace, name, uid, patch)

    async def _patch_metadata(self, namespace: str, name: str, uid: str, patch: list[Json]) -> Json:
        body = [{"op": "test", "path": "/metadata/uid", "value": uid}, *patch]
        query = {"fieldManager": FIELD_MANAGER}
        path = self._resource(namespace, name)
        return await self.call("PATCH", path, query=query, body=body, content_type=JSON_PATCH)

    async def annotate_pod(self, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> Json:
        body = {"metadata": {"uid": uid, "annotations": dict(annotations)}}
        return await self.call("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}", body=body, content_type=MERGE)

    async def set_pod_condition(
        self, namespace: str, name: str, uid: str, condition: Json, version: int | None = None
    ) -> Json:
        """`version`: only if the pod has not changed since, else the answer is 409."""
        metadata: Json = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": str(version)}
        body = {"metadata": metadata, "status": {"conditions": [condition]}}
        return await self.call(
            "PATCH",
            f"/api/v1/namespaces/{namespace}/pods/{name}/status",
            body=body,
            content_type="application/strategic-merge-patch+json",
        )

    async def create_event(self, namespace: str, event: Json) -> None:
        """Create an Event; one of the same name already there is not an error (it says the same)."""
        try:
            await self.call("POST", f"/api/v1/namespaces/{namespace}/events", body=event)
        except KubeError as error:
            if error.status != 409:
                raise


async def _lines(response: ClientResponse) -> AsyncGenerator[bytes]:
    """Lines of any length: aiohttp's own reader refuses long ones."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield line
        if rest:
            yield rest
    finally:
        response.close()


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return text[:200].decode("utf-8", "replace")
