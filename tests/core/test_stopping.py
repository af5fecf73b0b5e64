"""A process that is told to end does, also where a thread of it never returns."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from lora_operator.cli.stopping import run
from tests.core.api_server import ApiServer, an_api_server
from tests.core.test_app import LORA, PODS, a_list

PREAMBLE = """
import asyncio, threading
from lora_operator.cli.stopping import (exit_now, run)
forever = threading.Event().wait
"""


@contextmanager
def a_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_a_thread_that_never_returns_keeps_no_process_that_has_ended_in_order() -> None:
    program = """
    async def main(stop):
        asyncio.get_running_loop().run_in_executor(None, forever)
        print("runs", flush=True)
        await stop.wait()
        return 7
    exit_now(run(main))
    """
    with a_process(program) as process:
        assert process.stdout is not None and process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (1, 7)


def test_one_that_does_not_end_in_time_is_ended_and_says_where_it_hangs() -> None:
    program = """
    async def main(stop):
        print("runs", flush=True)
        while True:
            try:
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, forever))
            except asyncio.CancelledError:
                pass
    exit_now(run(main, grace_seconds=0.5))
    """
    with a_process(program) as process:
        assert process.stdout is not None and process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "did not end within 0.5 s" in said and "forever" in said


def test_a_thread_that_never_returns_keeps_no_process_that_has_failed_by_a_defect() -> None:
    program = """
    from lora_operator.cli import main
    def fails():
        threading.Thread(target=forever).start()
        raise KeyError("a defect")
    main.main = fails
    main.entry()
    """
    with a_process(program) as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1 and "KeyError: 'a defect'" in said


def test_what_ends_in_time_is_left_alone() -> None:
    async def main(_: asyncio.Event) -> int:
        return 3

    assert run(main) == 3

    async def fails(_: asyncio.Event) -> int:
        raise KeyError("as it was")

    with pytest.raises(KeyError, match="as it was"):
        run(fails)


OPERATOR = """
import sys
from lora_operator.cache.disk import Disk
from lora_operator.cli.main import main

do, stuck = Disk.do, set()

async def hang(disk, work):
    # every thread of the store is taken, and comes back never
    print("store", flush=True)
    return await do(disk, forever)

Disk.do = hang
exit_now(main(sys.argv[1:]))
"""


async def test_an_operator_whose_store_hangs_ends_within_the_grace_period_and_gives_its_lease_back(
    tmp_path: Path,
) -> None:
    async with an_api_server() as api:
        api.lists = {LORA: a_list(), PODS: a_list()}
        arguments = ["run", "--kubeconfig", str(kubeconfig(api, tmp_path)), "--adapter-root", str(tmp_path)]
        for port in ("--health-port", "--metrics-port", "--router-port"):
            arguments += [port, "0"]
        arguments += ["--lease-seconds", "120"]  # one attempt to write it may take a while
        with a_process(OPERATOR, *arguments) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "store\n"
            lease = "/apis/coordination.k8s.io/v1/namespaces/lora-operator-system/leases/lora-operator"
            assert api.objects[lease]["spec"]["holderIdentity"]
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.to_thread(process.communicate, timeout=60)
            assert process.returncode in (0, 1), said
            assert api.objects[lease]["spec"]["holderIdentity"] == ""


def kubeconfig(api: ApiServer, folder: Path) -> Path:
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": api.kube._client.configuration.host}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    path.write_text(
        yaml.safe_dump(
            {"clusters": [cluster], "users": [{"name": "u", "user": {"token": "t"}}], "contexts": [context],
             "current-context": "x"}
        )
    )  # fmt: skip
    return path
