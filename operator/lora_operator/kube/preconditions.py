"""What an operator or a router cannot do without: an API server that is new enough, the definition, and rights.

It is asked for at the start and when something is refused; what is missing is asked for again until it is there. What
is missing is said in one line and shown by /readyz; once it is there everything goes on without a new start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_operator.api import endpoint
from lora_operator.api import v1alpha1 as api
from lora_operator.api.crd import definition
from lora_operator.api.usage_record import CONFIG_MAP
from lora_operator.api.well_known import ENDPOINTS, GROUP, PLURAL, VERSION
from lora_operator.kube.client import Json, Kube, KubeError

log = logging.getLogger(__name__)

LEAST_KUBERNETES = (1, 30)  # ValidatingAdmissionPolicy v1, which guards pods; the definition's own rules need 1.29
MISSING_SECONDS = 1.0
MISSING_MOST_SECONDS = 5.0
AT_ONCE = 16
PATIENCE = 30  # looks
SHOWN = 6  # of what may be a long list


@dataclass(frozen=True, slots=True)
class Right:
    """`resource` with its subresource after a slash; no `namespace` means all, no `name` every object."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def where(self) -> str:
        """All but the verb."""
        what = self.resource + (f" {self.name}" if self.name else "")
        return what + (f" in namespace {self.namespace}" if self.namespace else "")


def rights_to_act(watched: Sequence[str], requests: str, lease: str) -> list[Right]:
    """What the chart always gives to the operator. `requests` and `lease` are namespaces; without election that of the
    Lease is empty. The labels of nodes are left out, which it can do without (`rbac.nodes`)."""
    found = []
    for namespace in watched or ("",):
        found += [Right(verb, PLURAL, GROUP, namespace) for verb in ("list", "watch", "patch")]
        found.append(Right("patch", f"{PLURAL}/status", GROUP, namespace))
        found += [Right(verb, ENDPOINTS, GROUP, namespace) for verb in ("list", "watch", "create", "patch")]
        found += [Right(verb, "pods", "", namespace) for verb in ("list", "watch", "patch")]
        found += [Right("patch", "pods/status", "", namespace), Right("create", "events", "", namespace)]
    found += [Right(verb, "configmaps", "", requests, CONFIG_MAP) for verb in ("get", "watch", "patch")]
    if lease:
        found += [Right(verb, "leases", "coordination.k8s.io", lease) for verb in ("get", "create", "update")]
    return found


def rights_to_answer(watched: Sequence[str], requests: str) -> list[Right]:
    """What the chart gives to a router of its own."""
    found = []
    for namespace in watched or ("",):
        found += [Right(verb, kind, GROUP, namespace) for kind in (PLURAL, ENDPOINTS) for verb in ("list", "watch")]
        found += [Right(verb, "pods", "", namespace) for verb in ("list", "watch")]
    return found + [Right(verb, "configmaps", "", requests, CONFIG_MAP) for verb in ("get", "patch")]


class Preconditions:
    """Let `keep_looking` run from the start on. `healed` is called when what was missing is there."""

    def __init__(self, kube: Kube, rights: Sequence[Right], healed: Callable[[], None] = lambda: None) -> None:
        self._kube = kube
        self._rights = rights
        self._missing: dict[str, str] = {}
        self._denied: Collection[Right] = ()
        self._topics = {"version": self._version, "definition": self._definition, "rights": self._granted}
        self._unknown = set(self._topics)  # nobody has answered yet
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._patience = PATIENCE
        self._healed = healed

    def why(self) -> str:
        """What is missing and what to do, in one line; empty if nothing is, as far as is known."""
        return "; ".join(self._missing.values())

    async def look(self) -> None:
        """See what is there now. What cannot be seen, because the API server does not answer, stays as it was."""
        self._denied = ()
        await asyncio.gather(*(self._see(topic) for topic in self._topics))

    async def keep_looking(self) -> None:
        """Until cancelled."""
        await self.look()
        pause = MISSING_SECONDS
        while True:
            lacking = dict(self._missing), set(self._unknown)
            if not any(lacking):
                await self._kube.refused.wait()
            await asyncio.sleep(pause)
            if self._kube.refused.is_set():
                self._kube.refused.clear()
                await self.look()
            else:  # what was there is there still, until something is refused
                await asyncio.gather(*(self._see(topic) for topic in {*self._missing, *self._unknown}))
            same = lacking == (self._missing, self._unknown)
            pause = min(pause * 1.5, MISSING_MOST_SECONDS) if same and any(lacking) else MISSING_SECONDS

    async def _see(self, topic: str) -> None:
        with contextlib.suppress(KubeError):
            problem = await self._topics[topic]()
            self._unknown -= {topic}
            if problem is None:
                self._unknown.add(topic)
            self._note(topic, problem or "")

    def _note(self, topic: str, problem: str) -> None:
        before = self._missing.pop(topic, "")
        if problem:
            self._missing[topic] = problem
            if problem != before:
                log.error("%s", problem)
        elif before:
            log.info("no longer so: %s", before)
            self._healed()

    async def _version(self) -> str | None:
        found = await self._kube.version()
        numbers = [re.match(r"\d+", str(found.get(key) or "")) for key in ("major", "minor")]
        if not all(numbers) or tuple(int(one[0]) for one in numbers if one) >= LEAST_KUBERNETES:
            return ""
        least = ".".join(map(str, LEAST_KUBERNETES))
        return f"Kubernetes {found.get('gitVersion')} is too old: upgrade the cluster to {least} or newer"

    async def _definition(self) -> str | None:
        """None while the API server does not say yet."""
        of_adapters = await self._defined(PLURAL, api.KIND)
        return await self._defined(ENDPOINTS, endpoint.KIND) if of_adapters == "" else of_adapters

    async def _defined(self, plural: str, kind: str) -> str | None:
        name = f"{plural}.{GROUP}"
        if not await self._kube.serves(GROUP, VERSION, plural):
            return (
                f"the CustomResourceDefinition {name} is missing: apply crds/, or upgrade the chart with crds.install"
            )
        served = await self._kube.schemas(GROUP, VERSION)
        (ours,) = definition(plural)["spec"]["versions"]
        theirs = next((one for key, one in served.items() if key.endswith(f".{ours['name']}.{kind}")), None)
        if theirs is None:  # its schema comes a moment after it
            self._patience -= 1
            return None if self._patience > 0 else ""
        self._patience = PATIENCE
        absent = list(_absent(ours["schema"]["openAPIV3Schema"], theirs))
        if not absent:
            return ""
        what = _some(absent)
        return (
            f"the CustomResourceDefinition {name} is of an older version, without {what}: apply crds/ of this version"
        )

    async def _granted(self) -> str | None:
        asked = [right for right in self._rights if right in self._denied] or self._rights
        answers = await asyncio.gather(*(self._may(right) for right in asked))
        self._denied = {right for right, may in zip(asked, answers, strict=True) if not may}
        verbs: dict[str, list[str]] = {}
        for right in self._rights:
            if right in self._denied:
                verbs.setdefault(right.where, []).append(right.verb)
        if not verbs:
            return ""
        absent = [f"{'/'.join(given)} {where}" for where, given in verbs.items()]
        return f"the service account may not {_some(absent)}: give it the chart's Roles, or manifests/install/rbac.yaml"

    async def _may(self, right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        asked = {
            "verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource,
            "namespace": right.namespace, "name": right.name,
        }  # fmt: skip
        async with self._turns:
            return await self._kube.may({key: value for key, value in asked.items() if value})


def _some(items: list[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def _absent(ours: Mapping[str, Any], theirs: Json, path: str = "") -> Iterator[str]:
    """The fields of our schema that another one does not have; of a branch only its beginning."""
    if theirs.get("x-kubernetes-preserve-unknown-fields"):
        return
    for name, field in (ours.get("properties") or {}).items():
        known = (theirs.get("properties") or {}).get(name)
        where = f"{path}.{name}" if path else name
        if known is None:
            yield where
        elif path or name != "metadata":  # which is everybody's
            yield from _absent(field, known, where)
    for key in ("items", "additionalProperties"):
        if isinstance(ours.get(key), dict) and isinstance(theirs.get(key), dict):
            yield from _absent(ours[key], theirs[key], path)
