"""API keys of engines: from the pod itself, or from the Secret that the pod names. Never logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping

from lora_operator.informers.polled import Where, why
from lora_operator.informers.records import PodRecord
from lora_operator.informers.secrets import read_secret, secrets
from lora_operator.kube.client import Kube

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class ApiKeys:
    """Knows each pod's key; reads a Secret again every minute while a pod needs it, so that rotation is noticed."""

    def __init__(self, kube: Kube, changed: Callable[[], None]) -> None:
        self._secrets = secrets(kube, changed, RETRY_SECONDS, read_secret)
        self._told: dict[Where, str] = {}
        self._guessing: set[str] = set()  # uids of pods whose engines once wanted a key that only a guess can give
        self.problems: dict[str, str] = {}  # pod -> why its key is not known

    def sync_targets(self, pods: Mapping[str, PodRecord], refused: Container[str] = ()) -> dict[str, str | None]:
        """The key of each pod, as far as known now; `changed` is called when one becomes known.

        `refused` are the pods whose engines do not accept theirs: their Secrets are read again sooner. A Secret that
        may hold a pod's key is read only once its engine has asked for one.
        """
        self._guessing &= {record.uid for record in pods.values()}
        keys: dict[str, str | None] = {}
        needed: set[Where] = set()
        sooner: set[Where] = set()
        self.problems = {}
        for key, record in pods.items():
            ref = record.pod.api_key_ref
            if ref is None or ref.secret is None:
                keys[key] = ref.literal if ref is not None else None
                continue
            if ref.guessed and key in refused:
                self._guessing.add(record.uid)
            if ref.guessed and record.uid not in self._guessing:
                keys[key] = None
                continue
            where = (record.pod.namespace, ref.secret.name)
            needed.add(where)
            known = self._secrets.values.get(where)
            keys[key] = known.get(ref.secret.key) if known is not None else None
            problem = self._problem(where, ref.secret.key)
            if problem:
                self.problems[key] = problem
            if key in refused or (known is not None and problem):
                sooner.add(where)
        self._secrets.sync_targets(needed, sooner)
        self._told = {where: text for where, text in self._told.items() if where in needed}
        return keys

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now: an engine asked without its key looks as if it were down."""
        await self._secrets.first_reads(timeout)

    async def stop(self) -> None:
        await self._secrets.stop()

    def _problem(self, where: Where, key: str) -> str:
        error, known = self._secrets.errors.get(where), self._secrets.values.get(where)
        if error is not None and (known is None or key not in known):
            text = f"Secret {where[1]} cannot be used: {why(error, 'Secret')}"
        elif known is not None and key not in known:
            text = f"Secret {where[1]} cannot be used: it has no readable key {key!r}"
        else:
            text = ""
        if self._told.get(where, "") != text:
            self._told[where] = text
            if text:
                log.warning("API key of engines in namespace %s: %s", where[0], text)
        return text
