"""The user's own connection to a cluster: kubeconfig, context and rights as kubectl would use them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import AsyncIterator, Mapping

from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from lora_operator.kube.client import MERGE, Json, Kube, KubeError
from lora_operator.plugin.problems import PluginError
from lora_operator.plugin.published import completed, is_cut

ANSWER_SECONDS = 10.0


class Cluster(Kube):
    """`namespaces` are those that the command is about, none for all; `namespace` is where names are looked for."""

    def __init__(self, client: ApiClient, namespace: str, everywhere: bool) -> None:
        super().__init__(client)
        self.namespace = namespace
        self.namespaces = () if everywhere else (namespace,)

    @property
    def where(self) -> str:
        """For messages."""
        return f"in namespace {self.namespace}" if self.namespaces else "in any namespace"

    async def adapters(self) -> list[Json]:
        """The LoraAdapters that the command is about, by namespace and name. Raises PluginError."""
        try:
            found, _ = await self.list_adapters(self.namespaces)
        except KubeError as error:
            if error.status == 404:
                raise PluginError(
                    "this cluster does not know LoraAdapters: install the operator, or `kubectl apply -f crds/`"
                ) from error
            raise explained(error, "list LoraAdapters") from error
        if any(map(is_cut, found)):
            found = completed(found, await self._endpoints())
        return sorted(found, key=_order)

    async def _endpoints(self) -> list[Json]:
        """What each pod holds; nothing where that may not be read, as status says most of it. Raises PluginError."""
        try:
            return (await self.list_endpoints(self.namespaces))[0]
        except KubeError as error:
            if error.status in (403, 404):
                return []
            raise explained(error, "list LoraEndpoints") from error

    async def all_pods(self) -> list[Json]:
        """The pods that the command is about. Raises PluginError."""
        try:
            found, _ = await self.list_pods(self.namespaces)
        except KubeError as error:
            raise explained(error, "list pods") from error
        return sorted(found, key=_order)

    async def labels_of_nodes(self) -> dict[str, Mapping[str, str]]:
        """By node, all in one list: a fleet may have a thousand. Raises KubeError."""
        found, _ = await self._list(["/api/v1/nodes"])
        return {body["metadata"]["name"]: body["metadata"].get("labels") or {} for body in found}

    async def annotate(self, namespace: str, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of a LoraAdapter; None removes one. Raises PluginError."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            await self.call("PATCH", self._resource(namespace, name), body=body, content_type=MERGE)
        except KubeError as error:
            raise explained(error, f"change LoraAdapter {namespace}/{name}") from error

    async def through_proxy(
        self, method: str, namespace: str, pod: str, port: int, path: str, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """A request to a pod by way of the API server: status and body of the answer. Raises KubeError."""
        proxy = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"
        try:
            asked = await self._client.param_serialize(
                method, proxy, header_params={"Accept": "*/*", **headers}, auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*asked[:4], _request_timeout=ANSWER_SECONDS)
            return response.status, await response.read()
        except Exception as error:  # aiohttp's own tree, time-outs, and what credentials plugins raise
            raise KubeError(0, f"{method} {proxy}: {type(error).__name__}: {error}") from error


@contextlib.asynccontextmanager
async def connected(arguments: argparse.Namespace) -> AsyncIterator[Cluster]:
    """Connect as the command line says. Raises PluginError."""
    cluster = await _connect(arguments.kubeconfig, arguments.context, arguments.namespace, arguments.all_namespaces)
    try:
        yield cluster
    finally:
        await cluster.close()


async def _connect(kubeconfig: str | None, context: str | None, namespace: str | None, everywhere: bool) -> Cluster:
    configuration = Configuration()
    own = None
    try:
        loader = await config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
        )
        own = loader.current_context["context"].get("namespace")
    except (config.ConfigException, OSError, KeyError, TypeError, AttributeError) as error:
        if kubeconfig or context or not os.environ.get("KUBERNETES_SERVICE_HOST"):
            raise PluginError(
                f"no usable kubeconfig: {error}; give --kubeconfig FILE and --context NAME, or set KUBECONFIG"
            ) from error
        config.load_incluster_config(client_configuration=configuration)
        own = os.environ.get("POD_NAMESPACE")
    configuration.retries = 1
    return Cluster(ApiClient(configuration), namespace or own or "default", everywhere)


def explained(error: KubeError, doing: str) -> PluginError:
    """What a refusal of the API server means for the person who wanted `doing`."""
    said = str(error).partition(": ")[2] or str(error)
    if error.status == 0:
        return PluginError(f"cannot {doing}: no cluster answers ({said}); are --context and --kubeconfig right?")
    if error.status == 401:
        return PluginError(f"cannot {doing}: the API server does not accept your credentials; log in again")
    if error.status == 403:
        return PluginError(f"cannot {doing}: {said.removeprefix('403 ')}; ask for that right")
    return PluginError(f"cannot {doing}: {said}")


def _order(body: Json) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]
