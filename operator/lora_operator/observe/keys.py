"""API keys of engines: from the pod itself, or from the Secret that the pod names. Never logged."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Container, Mapping

from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import PodRecord

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0
RETRY_SECONDS = 2.0

Ref = tuple[str, str, str]  # namespace, Secret, key


class ApiKeys:
    """Knows each pod's key; reads a Secret again every minute while a pod needs it, so that rotation is noticed."""

    def __init__(self, kube: Kube, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._changed = changed
        self._values: dict[Ref, str] = {}
        self._due: dict[Ref, float] = {}
        self._tasks: dict[Ref, asyncio.Task[None]] = {}
        self._errors: dict[Ref, str] = {}
        self.problems: dict[str, str] = {}  # pod -> why its key is not known

    def follow(self, pods: Mapping[str, PodRecord], refused: Container[str] = ()) -> dict[str, str | None]:
        """The key of each pod, as far as known now; `changed` is called when one becomes known.

        `refused` are the pods whose engines do not accept theirs: their Secrets are read again sooner.
        """
        keys: dict[str, str | None] = {}
        needed: set[Ref] = set()
        self.problems = {}
        now = time.monotonic()
        for key, record in pods.items():
            ref = record.pod.api_key_ref
            if ref is None or ref.secret is None:
                keys[key] = ref.literal if ref is not None else None
                continue
            where = (record.pod.namespace, ref.secret.name, ref.secret.key)
            needed.add(where)
            keys[key] = self._values.get(where)
            if where in self._errors:
                self.problems[key] = self._errors[where]
            if key in refused and self._due.get(where, 0.0) > now + RETRY_SECONDS:
                self._due[where] = now + RETRY_SECONDS
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._changed)
            if where not in self._tasks and self._due.get(where, 0.0) <= now:
                self._tasks[where] = asyncio.create_task(self._read(where), name="engine API key")
        for where in [where for where in self._due if where not in needed]:
            for table in (self._values, self._due, self._errors):
                table.pop(where, None)
        return keys

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now: an engine asked without its key looks as if it were down."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _read(self, where: Ref) -> None:
        namespace, name, key = where
        try:
            body = await self._kube.secret(namespace, name)
            value = base64.b64decode(body["data"][key]).decode().strip()
            if not value:
                raise ValueError(f"{key} is empty")
            self._due[where] = time.monotonic() + AGAIN_SECONDS
            self._errors.pop(where, None)
            if self._values.get(where) != value:
                self._values[where] = value
                self._changed()
        except (KubeError, KeyError, ValueError, TypeError, binascii.Error) as error:
            self._due[where] = time.monotonic() + RETRY_SECONDS
            why = _why(error) if isinstance(error, KubeError) else f"it has no readable key {key!r}"
            text = f"Secret {name} cannot be used: {why}"
            if self._errors.get(where) != text:
                self._errors[where] = text
                log.warning("API key of engines in namespace %s: %s", namespace, text)
                self._changed()
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._changed)
        finally:
            self._tasks.pop(where, None)


def _why(error: KubeError) -> str:
    if error.status == 403:
        return "the operator may not read it; give its service account the right to get this one Secret"
    return "there is no such Secret" if error.status == 404 else str(error)
