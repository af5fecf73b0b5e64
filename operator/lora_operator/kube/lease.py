"""One operator at a time: a Lease that the acting one holds and renews, as Kubernetes' own controllers do.

Who cannot renew in time stops acting *before* anybody else may begin: the others wait for `duration`, counted from the
last change that they saw, and the holder gives up after `deadline`, counted from before it asked for the last renewal.
Both are measured with a clock that goes on while a process is stopped or a machine sleeps, so that a paused holder that
wakes up finds out before its next effect (`check`).

An attempt has a third of the deadline, and a connection that was silent for so long is not used again: one that hangs
costs an attempt, and never the lead.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lora_operator.kube.client import Kube, KubeError

log = logging.getLogger(__name__)


class LeaseLost(KubeError):
    """Somebody else may be acting by now; the process should end, and be started anew as one that waits."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. Kubernetes' own controllers use 15, 10 and 2."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


def awake_or_not() -> float:
    """Seconds that pass also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Elector:
    """`identity` must be one process's alone; a pod's name is: its next container starts when the last has ended.

    `kube` should be nobody else's: what renews must not wait behind anything.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = awake_or_not,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self.identity = identity
        self._times = times or LeaseTimes()
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] = ("", 0.0)  # the resource version that was seen last, and since when
        self._written: dict[str, Any] | None = None  # the Lease as it is since our last write, if nobody wrote since
        self._said = ""
        self._looked_at = 0.0
        self.holder = ""

    @property
    def _attempt_seconds(self) -> float:
        return self._times.deadline / 3

    @property
    def where(self) -> str:
        """For people."""
        return f"Lease {self._namespace}/{self._name}"

    def held(self) -> bool:
        """Whether nobody else can be acting now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._times.deadline

    def standing_by(self) -> bool:
        """Whether another was seen to hold it a moment ago: all is well, and it is not our turn."""
        others = self.holder not in ("", self.identity)
        return others and self._clock() - self._looked_at < self._times.duration

    def check(self) -> None:
        """To be called right before every effect. Raises LeaseLost."""
        if not self.held():
            raise LeaseLost(f"{self.where} was not renewed for {self._times.deadline:g} s: another may be acting")

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._attempt():  # noqa: ASYNC110 - a Lease tells nobody that it is free
            await asyncio.sleep(self._times.retry * random.uniform(0.8, 1.2))
        log.info("leading: %s is ours (%s)", self.where, self.identity)

    async def keep(self) -> None:
        """Renew it for as long as that works. Raises LeaseLost; ends in no other way."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._times.retry
        while True:
            await asyncio.sleep(max(due - loop.time(), 0.0))  # after one that hung, the next begins at once
            due = loop.time() + self._times.retry
            if not await self._attempt() and self.holder not in ("", self.identity):
                self._renewed_at = None
            self.check()

    async def release(self) -> None:
        """Let the next one begin at once. Nothing of ours may be under way any more."""
        if not self.held():
            return
        self._renewed_at = None
        try:
            async with asyncio.timeout(self._attempt_seconds):
                body = self._written or await self._kube.call("GET", self._path)
                if body["spec"].get("holderIdentity") == self.identity:
                    body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._put(body)
        except (KubeError, KeyError, TimeoutError) as error:
            log.warning("%s was not released, others wait for %g s: %r", self.where, self._times.duration, error)

    async def _attempt(self) -> bool:
        """Take or renew it if it is free or ours; false if it is not, or nobody can tell."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._attempt_seconds):
                if not (await self._renew() or await self._take(began)):
                    return False
        except TimeoutError:
            self._complain(KubeError(0, f"no answer within {self._attempt_seconds:.1f} s"))
            return False
        except KubeError as error:
            if error.status != 409:  # somebody was faster
                self._complain(error)
            return False
        self._renewed_at, self.holder, self._said = began, self.identity, ""
        return True

    async def _renew(self) -> bool:
        """Write what we wrote last once more, without reading it before; false if it is another by now."""
        if self._written is None:
            return False
        try:
            await self._write(self._written)
        except KubeError as error:
            if error.status not in (404, 409):
                raise
            self._written = None  # somebody wrote, or it was us and the answer was lost
        return self._written is not None

    async def _take(self, now: float) -> bool:
        """Write it if it is free or ours; false while another has it."""
        body = await self._read_or_create(now)
        if body is not None:
            await self._write(body)
        return body is not None

    async def _write(self, body: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = body["spec"]
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = stamp
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {
            "holderIdentity": self.identity,
            # in whole seconds, and never fewer than what we count on: others may have been told to wait for less
            "leaseDurationSeconds": math.ceil(self._times.duration),
            "renewTime": stamp,
        }
        self._written = await self._put(body)

    async def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        """As it was read or written last, with changes. Raises KubeError: 409 if somebody else wrote it since."""
        return await self._kube.call("PUT", self._path, body=body, fenced=False)

    async def _read_or_create(self, now: float) -> dict[str, Any] | None:
        """What to write so that it is ours, None while another has it."""
        try:
            body = await self._kube.call("GET", self._path)
        except KubeError as error:
            if error.status != 404:
                raise
            new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
            body = await self._kube.call("POST", self._path.rpartition("/")[0], body=new, fenced=False)
        spec = body.setdefault("spec", {})
        self._looked_at = now
        self.holder = str(spec.get("holderIdentity") or "")
        version = str(body["metadata"].get("resourceVersion"))
        if self._seen[0] != version:
            self._seen = (version, now)
        others = self.holder not in ("", self.identity)
        if others and now - self._seen[1] < max(self._times.duration, float(spec.get("leaseDurationSeconds") or 0)):
            if self._said != self.holder:
                self._said = self.holder
                log.info("standing by: %s is held by %s", self.where, self.holder)
            return None
        return body

    def _complain(self, error: KubeError) -> None:
        hint = ""
        if error.status == 403:
            hint = "; give the service account the right to get, create and update it, or use --no-leader-election"
        text = f"{self.where} cannot be written: {error}{hint}"
        if self._said != text:
            self._said = text
            log.warning("%s", text)
