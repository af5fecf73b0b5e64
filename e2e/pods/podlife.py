"""One pod from its binding to a node until it is gone: containers, status, and an orderly end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from e2e.pods.api import Api, ApiError, Json
from e2e.pods.container import ContainerError
from e2e.pods.containers import ContainerLife, timestamp
from e2e.pods.options import Options
from e2e.pods.podspec import Launch, SpecError, folder_of, launch, own_folders, references, sidecars_of
from e2e.pods.programs import program_of
from e2e.pods.status import ContainerState, final_status, is_ready, pod_status
from e2e.pods.volumes import files_of, parts_of, write_files

RETRY_SECONDS = 0.1


class PodLife:
    """Plays one pod (one uid). `observe` is called with every newer version of the object, `vanish` when it is gone."""

    def __init__(
        self,
        pod: Json,
        *,
        api: Api,
        options: Options,
        http: aiohttp.ClientSession,
        directory: Path,
        ip: str,
        node: str,
        host_ip: str,
        status_changed: Callable[[], None],
    ) -> None:
        self.pod = pod
        self.ip = ip
        self.node = node
        self.ready = False
        self._api = api
        self._options = options
        self._host_ip = host_ip
        self._status_changed = status_changed
        self._directory = directory / folder_of(pod)
        self._start_time: str = (pod.get("status") or {}).get("startTime") or timestamp()
        self._dirty = asyncio.Event()
        self._leaving = asyncio.Event()
        self._ended = False  # all containers have, for good
        self._gone = asyncio.Event()
        self._vanished = False
        self._published: Json | None = None
        status = pod.get("status") or {}
        known = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        before = {item["name"]: item for item in known}
        self._sidecars = [spec["name"] for spec in sidecars_of(pod)]
        self.containers = {
            spec["name"]: ContainerLife(
                _taken_up(spec, before.get(spec["name"])),
                self._directory,
                options,
                http,
                partial(self._prepare, spec),
                self._dirty.set,
            )
            for spec in (*pod["spec"]["containers"], *sidecars_of(pod))
        }
        self._task: asyncio.Task[None] | None = None

    @property
    def directory(self) -> Path:
        return self._directory

    def begin(self) -> None:
        metadata = self.pod["metadata"]
        self._accept(self.pod)
        self._task = asyncio.create_task(self._live(), name=f"pod {metadata['namespace']}/{metadata['name']}")

    def observe(self, pod: Json) -> None:
        """Take note of a version of the object; older ones than the one that is known are passed over."""
        if int(pod["metadata"]["resourceVersion"]) > int(self.pod["metadata"]["resourceVersion"]):
            self._accept(pod)

    def _accept(self, pod: Json) -> None:
        pod["spec"]["nodeName"] = self.node  # what was seen before the binding does not know it yet
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._leaving.set()
        self._dirty.set()  # a readiness gate may have changed

    def vanish(self) -> None:
        """The object is gone from the API server, with or without our doing."""
        self._vanished = True
        self._gone.set()
        self._leaving.set()

    async def finished(self) -> None:
        if self._task:
            await asyncio.shield(self._task)

    async def abandon(self) -> None:
        """End the containers at once and tell nobody: the runner stops, or the node is lost."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._end_containers(0)

    def container(self, name: str) -> ContainerLife:
        if name not in self.containers:
            raise ContainerError(
                f"pod {self.pod['metadata']['name']} has no container {name!r}; it has {', '.join(self.containers)}"
            )
        return self.containers[name]

    def signal(self, name: str, number: signal.Signals) -> None:
        self.container(name).signal(number)

    async def _live(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for volume in own_folders(self.pod, self._directory).values():
            volume.mkdir(parents=True, exist_ok=True)
        publishing, gone = asyncio.create_task(self._publish()), asyncio.create_task(self._wait_until_gone())
        try:
            await self._run_until_leave(publishing)
            await self._end_containers(0)  # one may have been about to start
            self._ended = True
            self._dirty.set()
            await asyncio.wait([publishing, gone], return_when=asyncio.FIRST_COMPLETED)  # said, or unsaid for good
        finally:
            publishing.cancel()
            gone.cancel()
            await asyncio.gather(publishing, gone, return_exceptions=True)
        shutil.rmtree(self._directory / "volumes", ignore_errors=True)
        if not self._vanished:
            await self._remove()

    async def _run_until_leave(self, publishing: asyncio.Task[None]) -> None:
        """Run the containers until the pod is to go, and end them within its grace period."""
        tasks: list[asyncio.Task[None]] = []
        try:
            if not self._leaving.is_set():
                tasks = [asyncio.create_task(self._run_containers())]
                tasks += [asyncio.create_task(self._keep_files())] if parts_of(self.pod) else []
            tasks.append(asyncio.create_task(self._wait_for_leave()))
            await asyncio.wait([*tasks, publishing], return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, publishing):
                if task.done():
                    task.result()  # none ends by itself: it can only be an error, which must not pass unseen
            grace = 0.0 if self._vanished else float(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            await self._end_containers(grace)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_leave(self) -> None:
        await self._leaving.wait()

    async def _wait_until_gone(self) -> None:
        await self._gone.wait()

    async def _run_containers(self) -> None:
        """Native sidecars one after the other, each once the one before has started, and then all others."""
        async with asyncio.TaskGroup() as group:
            for name in self._sidecars:
                group.create_task(self.containers[name].live())
                await self.containers[name].started.wait()
            for item in self._main():
                group.create_task(item.live())

    async def _end_containers(self, grace_seconds: float) -> None:
        """Native sidecars after all others, the last that was started first."""
        until = time.monotonic() + grace_seconds
        await asyncio.gather(*(item.end(grace_seconds) for item in self._main()))
        for name in reversed(self._sidecars):
            await self.containers[name].end(max(until - time.monotonic(), 0.0))

    def _main(self) -> list[ContainerLife]:
        return [item for name, item in self.containers.items() if name not in self._sidecars]

    async def _keep_files(self) -> None:
        """Volumes of Secrets and ConfigMaps follow these, as a kubelet does in a minute; what is deleted stays."""
        while True:
            await asyncio.sleep(self._options.refresh_seconds)
            with suppress(SpecError):
                self._write_files(await self._sources())

    def _write_files(self, sources: dict[tuple[str, str], Json]) -> None:
        folders = own_folders(self.pod, self._directory)
        for volume, parts in parts_of(self.pod).items():
            write_files(folders[volume], files_of(parts, sources))

    async def _prepare(self, spec: Json) -> Launch:
        program = program_of(spec["image"], self._options.programs)
        sources = await self._sources()
        self._write_files(sources)
        return launch(self.pod, spec, program, ip=self.ip, directory=self._directory, sources=sources)

    async def _sources(self) -> dict[tuple[str, str], Json]:
        """The Secrets and ConfigMaps that the pod names. Raises SpecError."""
        namespace = self.pod["metadata"]["namespace"]
        sources: dict[tuple[str, str], Json] = {}
        for kind, name, optional in references(self.pod):
            try:
                sources[kind, name] = await self._api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
            except ApiError as error:
                if not (optional and error.status == 404):
                    raise SpecError(str(error)) from error
        return sources

    def _status(self) -> Json:
        status = pod_status(
            self.pod,
            [item.state for item in self._main()],
            sidecars=[self.containers[name].state for name in self._sidecars],
            ip=self.ip,
            host_ip=self._host_ip,
            start_time=self._start_time,
            now=timestamp(),
        )
        return final_status(status) if self._ended else status

    async def _publish(self) -> None:
        """Write the status whenever it says something new, until it has said that all has ended.

        An API server that is away is asked again.
        """
        ended = False
        while not ended:
            await self._dirty.wait()
            self._dirty.clear()
            ended = self._ended
            status = self._status()
            said = self._published is not None and _timeless(status) == _timeless(self._published)
            # the node controller makes the pods of a node that was late unready, which has to be put right
            if said and is_ready(status) == is_ready(self.pod.get("status") or {}):
                continue
            body = {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status}
            try:
                # somebody else's change may have been seen before this answer came
                self.observe(await self._api.patch(f"{self._path()}/status", body))
            except ApiError as error:
                if error.status == 404:
                    continue  # gone: the watch will say so
                if 400 <= error.status < 500 and error.status not in (409, 429):
                    raise
                self._dirty.set()
                ended = False
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._published = status
            self.ready = is_ready(status)
            self._status_changed()

    async def _remove(self) -> None:
        """Take the object away, as a kubelet does once nothing of the pod runs any more."""
        preconditions = {"uid": self.pod["metadata"]["uid"]}
        body = {"gracePeriodSeconds": 0, "preconditions": preconditions}
        while not self._vanished:
            try:
                await self._api.delete(self._path(), body)
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                await asyncio.sleep(RETRY_SECONDS)

    def _path(self) -> str:
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _taken_up(spec: Json, before: Json | None) -> ContainerState:
    """The state to start from: a runner that comes back finds its containers dead, as after a reboot of the node."""
    state = ContainerState(spec["name"], spec["image"])
    if before and before.get("containerID"):
        state.restarts = int(before.get("restartCount", 0)) + 1
        running = (before.get("state") or {}).get("running")
        if running:
            ended = {"exitCode": 255, "reason": "Unknown", "containerID": before["containerID"]}
            state.last = {"terminated": {**ended, "startedAt": running.get("startedAt"), "finishedAt": timestamp()}}
    return state


def _timeless(status: Json) -> Json:
    conditions = [{k: v for k, v in item.items() if k != "lastTransitionTime"} for item in status["conditions"]]
    return {**status, "conditions": conditions}
