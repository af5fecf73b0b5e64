"""The pod runner for synchronous code: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from e2e.pods.runner import PodRunner

T = TypeVar("T")


class PodRunnerThread:
    """`with PodRunnerThread(kubeconfig, directory) as pods: pods.wait_ready(namespace, 3)`

    The methods are those of `PodRunner`; `run` and `call` reach the rest in its own thread.
    """

    def __init__(self, kubeconfig: Path, directory: Path, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pod runner", daemon=True)
        self.runner = PodRunner(kubeconfig, directory, **options)

    def __enter__(self) -> PodRunnerThread:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()
        try:
            self.run(self.runner.start())
        except BaseException:
            self._end_thread()
            raise

    def stop(self) -> None:
        try:
            self.run(self.runner.stop())
        finally:
            self._end_thread()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the runner's loop and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the runner's thread, as its pods and engines are not made to be touched from another."""

        async def wrapped() -> T:
            return function()

        return self.run(wrapped())

    def wait_ready(self, namespace: str, count: int, prefix: str = "", timeout: float = 60.0) -> None:
        self.run(self.runner.wait_ready(namespace, count, prefix, timeout))

    def wait_restarted(
        self, namespace: str, pod: str, restarts: int = 1, container: str = "vllm", timeout: float = 60.0
    ) -> None:
        self.run(self.runner.wait_restarted(namespace, pod, restarts, container, timeout))

    def kill_container(self, namespace: str, pod: str, container: str = "vllm") -> None:
        self.run(self.runner.kill_container(namespace, pod, container))

    def freeze(self, namespace: str, pod: str, container: str = "vllm") -> None:
        self.run(self.runner.freeze(namespace, pod, container))

    def thaw(self, namespace: str, pod: str, container: str = "vllm") -> None:
        self.run(self.runner.thaw(namespace, pod, container))

    def lose_node(self, node: str) -> None:
        self.run(self.runner.lose_node(node))

    def restore_node(self, node: str) -> None:
        self.run(self.runner.restore_node(node))

    def pods(self, namespace: str, prefix: str = "") -> list[str]:
        return self.call(lambda: self.runner.pods(namespace, prefix))

    def address_of(self, namespace: str, pod: str) -> str:
        return self.call(lambda: self.runner.address_of(namespace, pod))

    def pid_of(self, namespace: str, pod: str, container: str = "vllm") -> int | None:
        return self.call(lambda: self.runner.process_of(namespace, pod, container).pid)

    def folder_of(self, namespace: str, pod: str) -> Path:
        return self.call(lambda: self.runner.folder_of(namespace, pod))

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
