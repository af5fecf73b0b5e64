"""Watches the pods that carry the test label and has each of them played."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from e2e.pods.addresses import AddressBook
from e2e.pods.api import Api, ApiError, Json
from e2e.pods.container import Container, ContainerError, InProcessEngine
from e2e.pods.nodes import Nodes
from e2e.pods.options import TEST_LABEL, Options
from e2e.pods.podlife import PodLife

SELECTOR = {"labelSelector": f"{TEST_LABEL}=true"}
RETRY_SECONDS = 0.2


class PodRunnerError(Exception):
    """A pod is not what a test takes it for, or the runner itself has failed; the message says why."""


class PodRunner:
    """The kubelet of all test pods. `async with PodRunner(kubeconfig, directory) as pods: …`

    `directory` gets a folder per pod, with the logs of its containers (`vllm.log`) and its emptyDir volumes. `options`
    replaces values of `Options`, such as `subnet="127.20.0.0/16"` or `in_process=True`.
    """

    def __init__(self, kubeconfig: Path, directory: Path, **options: Any) -> None:
        self._kubeconfig = kubeconfig
        self._directory = directory.absolute()
        self.options = Options(**options)
        self._lives: dict[str, PodLife] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> PodRunner:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Register the Nodes and begin; what is already there is taken up."""
        (self._directory / "pods").mkdir(parents=True, exist_ok=True)
        for stale in (self._directory / "pods").glob("*/*.pid"):
            stale.unlink()
        self._book = AddressBook(self._directory / "addresses.json", self.options.subnet)
        self._api = await Api.connect(self._kubeconfig)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        addresses = {f"node-{index}": self._book.node(index) for index in range(self.options.nodes)}
        self._nodes = Nodes(self._api, addresses, self.options.lease_renew_seconds)
        try:
            await self._nodes.register()
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._nodes.keep_alive())
        self._spawn(self._watch())

    async def stop(self) -> None:
        """End every process at once. The API server's objects stay as they are, as when a machine is switched off."""
        # closed first, while all connections are known: one whose request is cancelled would be left half closed
        await self._api.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lives, self._lives = list(self._lives.values()), {}
        await asyncio.gather(*(life.abandon() for life in lives))
        await self._http.close()
        self._book.close()

    async def wait_ready(self, namespace: str, count: int, prefix: str = "", timeout: float = 60.0) -> None:
        """Wait until exactly `count` pods whose names begin with `prefix` are there, and all are Ready.

        Raises:
            PodRunnerError: not within `timeout` seconds; the message says how each pod is.
        """

        def done() -> bool:
            lives = self._of(namespace, prefix)
            return len(lives) == count and all(life.ready for life in lives)

        await self.wait_until(done, timeout, lambda: self._describe(namespace, prefix))

    async def wait_restarted(
        self, namespace: str, pod: str, restarts: int = 1, container: str = "vllm", timeout: float = 60.0
    ) -> None:
        """Wait until a container was restarted this often and its pod is Ready again.

        Raises:
            PodRunnerError: not within `timeout` seconds.
        """

        def done() -> bool:
            life = self._life(namespace, pod)
            return life.ready and life.container(container).state.restarts >= restarts

        await self.wait_until(done, timeout, lambda: self._describe(namespace, pod))

    async def wait_until(self, done: Callable[[], bool], timeout: float, describe: Callable[[], str]) -> None:
        """Wait until `done`, which is asked whenever a pod came, changed or went.

        Raises:
            PodRunnerError: not within `timeout` seconds, or the runner has failed.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._failure is None and not done():
                    await self._changed.wait()
        except TimeoutError as error:
            raise PodRunnerError(f"not so within {timeout:g} s: {describe()}") from error
        if self._failure is not None:
            raise PodRunnerError(f"the pod runner failed: {self._failure!r}") from self._failure

    async def failed(self) -> None:
        """Wait until the runner itself fails.

        Raises:
            PodRunnerError: always; its cause is the failure.
        """
        while self._failure is None:
            await self._changed.wait()
        raise PodRunnerError(f"the pod runner failed: {self._failure!r}") from self._failure

    async def kill_container(self, namespace: str, pod: str, container: str = "vllm") -> None:
        """SIGKILL: the container dies and is restarted."""
        self._life(namespace, pod).signal(container, signal.SIGKILL)

    async def freeze(self, namespace: str, pod: str, container: str = "vllm") -> None:
        """SIGSTOP: the container hangs, its connections stay open."""
        self._life(namespace, pod).signal(container, signal.SIGSTOP)

    async def thaw(self, namespace: str, pod: str, container: str = "vllm") -> None:
        self._life(namespace, pod).signal(container, signal.SIGCONT)

    async def lose_node(self, node: str) -> None:
        """Its Lease is no longer renewed and everything on it is dead; nobody tells the API server."""
        self._nodes.lost.add(node)
        gone = [uid for uid, life in self._lives.items() if life.node == node]
        lives = [self._lives.pop(uid) for uid in gone]
        await asyncio.gather(*(life.abandon() for life in lives))

    async def restore_node(self, node: str) -> None:
        """The machine is back: its pods start again, with a higher restart count."""
        await self._nodes.restore(node)
        listed = await self._api.get("/api/v1/pods", SELECTOR)
        for pod in listed["items"]:
            self._take(pod)

    def process_of(self, namespace: str, pod: str, container: str = "vllm") -> Container:
        """The container as it runs now; `.pid` is its process.

        Raises:
            ContainerError: it does not run at the moment.
        """
        running = self._life(namespace, pod).container(container).running
        if running is None:
            raise ContainerError(f"container {container} of pod {namespace}/{pod} is not running")
        return running

    def engine_of(self, namespace: str, pod: str) -> Any:
        """The simulated engine of a pod that runs `in_process`: its faults, its journal, what it has loaded."""
        running = self.process_of(namespace, pod)
        if not isinstance(running, InProcessEngine):
            raise ContainerError(f"the engine of pod {namespace}/{pod} is a process of its own; give in_process=True")
        return running.engine

    def address_of(self, namespace: str, pod: str) -> str:
        return self._life(namespace, pod).ip

    def folder_of(self, namespace: str, pod: str) -> Path:
        """Where its logs and volumes are."""
        return self._life(namespace, pod).directory

    def pods(self, namespace: str, prefix: str = "") -> list[str]:
        """The names of the pods that are played now, sorted."""
        return sorted(life.pod["metadata"]["name"] for life in self._of(namespace, prefix))

    def _of(self, namespace: str, prefix: str) -> list[PodLife]:
        def matches(life: PodLife) -> bool:
            metadata = life.pod["metadata"]
            return bool(metadata["namespace"] == namespace and metadata["name"].startswith(prefix))

        return [life for life in self._lives.values() if matches(life)]

    def _life(self, namespace: str, pod: str) -> PodLife:
        lives = [life for life in self._of(namespace, pod) if life.pod["metadata"]["name"] == pod]
        if not lives:
            there = ", ".join(self.pods(namespace)) or "none"
            raise PodRunnerError(f"no pod {namespace}/{pod} is played here; in this namespace there are: {there}")
        return lives[-1]

    def _describe(self, namespace: str, prefix: str) -> str:
        lines = [
            f"{life.pod['metadata']['name']}: ready={life.ready}, "
            + ", ".join(f"{name} {item.state.state} (log {item.log})" for name, item in life.containers.items())
            for life in self._of(namespace, prefix)
        ]
        return f"{len(lines)} pods {prefix}* in {namespace}; " + "; ".join(lines)

    async def _watch(self) -> None:
        query = dict(SELECTOR)
        while True:
            try:
                listed = await self._api.get("/api/v1/pods", query)
                present = {pod["metadata"]["uid"] for pod in listed["items"]}
                for uid in [uid for uid in self._lives if uid not in present]:
                    self._lives[uid].vanish()
                self._book.keep_only(present)
                for pod in listed["items"]:
                    self._take(pod)
                version = listed["metadata"]["resourceVersion"]
                async with aclosing(self._api.watch("/api/v1/pods", query, version)) as events:
                    async for kind, pod in events:
                        if kind == "DELETED" and pod["metadata"]["uid"] in self._lives:
                            self._lives[pod["metadata"]["uid"]].vanish()
                        elif kind in ("ADDED", "MODIFIED"):
                            self._take(pod)
            except ApiError:
                await asyncio.sleep(RETRY_SECONDS)

    def _take(self, pod: Json) -> None:
        """A pod was seen: tell its life, or give it one."""
        metadata = pod["metadata"]
        if self.options.namespaces and metadata["namespace"] not in self.options.namespaces:
            return
        if life := self._lives.get(metadata["uid"]):
            life.observe(pod)
            return
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        node = pod["spec"].get("nodeName")
        if node and (node not in self._nodes.addresses or node in self._nodes.lost):
            return
        if node is None:
            node = self._nodes.next(pod["spec"].get("nodeSelector") or {})
            if node is None:
                return
        life = PodLife(
            pod,
            api=self._api,
            options=self.options,
            http=self._http,
            directory=self._directory / "pods",
            ip=self._book.give(metadata["uid"]),
            node=node,
            host_ip=self._nodes.addresses[node],
            status_changed=self._notify,
        )
        self._lives[metadata["uid"]] = life
        self._spawn(self._play(life, node))

    async def _play(self, life: PodLife, node: str) -> None:
        uid = life.pod["metadata"]["uid"]
        if life.pod["spec"].get("nodeName") or await self._bind(life, node):
            life.begin()
            self._notify()
            await life.finished()
        # not reached when the runner stops or the node is lost: then the pod is still there, and keeps its address
        if self._lives.get(uid) is life:
            del self._lives[uid]
            self._book.take_back(uid)
        self._notify()

    async def _bind(self, life: PodLife, node: str) -> bool:
        metadata = life.pod["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target}
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding"
        while True:
            try:
                await self._api.create(path, body)
                return True
            except ApiError as error:
                if 400 <= error.status < 500 and error.status != 429:
                    return False  # gone, or bound by somebody else: if it is ours, it is seen again
                await asyncio.sleep(RETRY_SECONDS)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self._notify()

    def _notify(self) -> None:
        """Wake all who wait; whoever waits from now on waits for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
