"""Which lists and watches it takes to see every pod that may take part, and as few others as possible. Pure.

A pod takes part by its label or by an adapter's podSelector: the API server can choose by both. Where selectors are too
many, one watch over more pods costs less than many narrow ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from lora_operator.api.well_known import ENDPOINTS, GROUP, PLURAL, POD_LABEL, VERSION
from lora_operator.informers.records import Resource

PARTICIPANTS = f"{POD_LABEL}=enabled"
MOST_NAMESPACES = 4  # that have the same selector, each with a watch of its own
MOST_IN_NAMESPACE = 8
MOST = 32
_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_KEY = re.compile(
    rf"((?=[^/]{{1,253}}/){_DNS_LABEL}(\.{_DNS_LABEL})*/)?(?=.{{1,63}}$)[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?", re.A
)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What one list and watch sees. `namespace` empty: all; `name`: of one object; `labels`: as `kubectl -l` has it;
    `engines`: nothing is kept of what serves no model."""

    base: str  # of the API, such as /api/v1
    plural: str
    namespace: str = ""
    labels: str = ""
    name: str = ""
    engines: bool = False

    @property
    def path(self) -> str:
        return (
            f"{self.base}/namespaces/{self.namespace}/{self.plural}" if self.namespace else f"{self.base}/{self.plural}"
        )

    @property
    def query(self) -> dict[str, str]:
        fields = {"fieldSelector": f"metadata.name={self.name}"} if self.name else {}
        return fields | ({"labelSelector": self.labels} if self.labels else {})

    @property
    def whole(self) -> bool:
        """Whether what leaves it is gone, and not only another than it was."""
        return not self.labels and not self.engines

    def __str__(self) -> str:
        what = self.plural + (f" {self.name}" if self.name else "") + (f" ({self.labels})" if self.labels else "")
        return what + (f" in namespace {self.namespace}" if self.namespace else "")


def adapter_scopes(namespaces: Iterable[str]) -> frozenset[Scope]:
    """`namespaces`: those that are watched, none for all."""
    return frozenset(Scope(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace) for namespace in tuple(namespaces) or ("",))


def endpoint_scopes(namespaces: Iterable[str]) -> frozenset[Scope]:
    """The same of LoraEndpoints."""
    return frozenset(replace(scope, plural=ENDPOINTS) for scope in adapter_scopes(namespaces))


def selector_of(resource: Resource) -> str:
    """The podSelector, as `kubectl -l` has it; empty where it chooses none but those that take part by their label, or
    where it asks for a label that no pod can have: the API server refuses a list by that one."""
    if resource.spec is None or resource.deleted_at is not None:
        return ""
    selector = resource.spec.deployment_config.pod_selector
    if not all(map(_LABEL_KEY.fullmatch, (*selector.match_labels, *(one.key for one in selector.match_expressions)))):
        return ""
    return "" if selector.match_labels.get(POD_LABEL) == "enabled" else selector.to_string()


def pod_scopes(
    namespaces: Collection[str],
    selectors: Iterable[tuple[str, str]],
    others: Iterable[str],
    *,
    all_engines: bool = False,
) -> frozenset[Scope]:
    """What it takes to see the pods that take part, and `others`, keys of pods that do not any more.

    `selectors`: namespaces and what `selector_of` their resources says. With `all_engines` also every other pod that
    serves a model, which no selector finds.
    """
    found = {_pods(namespace, PARTICIPANTS) for namespace in namespaces or ("",)}
    where: dict[str, set[str]] = {}
    for namespace, labels in selectors:
        where.setdefault(labels, set()).add(namespace)
    for labels, those in where.items():
        wide = not namespaces and len(those) > MOST_NAMESPACES
        found |= {_pods(namespace, labels) for namespace in ([""] if wide else those)} if labels else set()
    found |= {one_pod(key) for key in others}
    few = _fewer(found, namespaces)
    return few | {replace(scope, engines=True) for scope in _all(namespaces)} if all_engines else few


def one_pod(key: str) -> Scope:
    namespace, _, name = key.partition("/")
    return _pods(namespace, name=name)


def _pods(namespace: str, labels: str = "", name: str = "") -> Scope:
    return Scope("/api/v1", "pods", namespace, labels, name)


def _all(namespaces: Collection[str]) -> frozenset[Scope]:
    return frozenset(_pods(namespace) for namespace in namespaces or ("",))


def _fewer(scopes: set[Scope], namespaces: Collection[str]) -> frozenset[Scope]:
    inside: dict[str, int] = {}
    for scope in scopes:
        inside[scope.namespace] = inside.get(scope.namespace, 0) + 1
    full = {namespace for namespace, count in inside.items() if namespace and count > MOST_IN_NAMESPACE}
    fewer = {scope for scope in scopes if scope.namespace not in full} | {_pods(namespace) for namespace in full}
    if len(fewer) <= max(MOST, len(namespaces)):
        return frozenset(fewer)
    return _all(namespaces)
