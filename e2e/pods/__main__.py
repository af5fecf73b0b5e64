"""`python -m e2e.pods run | list | kill | freeze | thaw`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from e2e.pods.addresses import AddressError
from e2e.pods.api import ApiError
from e2e.pods.options import TEST_LABEL
from e2e.pods.runner import PodRunner, PodRunnerError

SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except (ApiError, AddressError, PodRunnerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.pods",
        description=f"Plays the kubelet for pods with the label {TEST_LABEL}=true: their containers run as "
        "processes of this machine, each pod on an address of its own in 127.0.0.0/8. The image decides the program: "
        "vllm-sim, or vllm with the Python that LORA_OPERATOR_VLLM_PYTHON names.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="play until interrupted")
    run.set_defaults(run=_run)
    run.add_argument(
        "--kubeconfig",
        type=Path,
        default=os.environ.get("KUBECONFIG"),
        help="the cluster, as its administrator (default: KUBECONFIG)",
    )
    run.add_argument("--nodes", type=int, default=3, help="how many Nodes to create (default: %(default)s)")
    run.add_argument("--subnet", help="the /16 for the pods' addresses, such as 127.20.0.0/16 (default: a free one)")
    run.add_argument("--in-process", action="store_true", help="run simulated engines in this process: many are cheap")
    listing = commands.add_parser("list", help="the containers that run now: namespace, pod, container, process, log")
    listing.set_defaults(run=_list)
    for name, text in (
        ("kill", "SIGKILL a container; it is restarted"),
        ("freeze", "SIGSTOP a container: it hangs"),
        ("thaw", "let a frozen container go on"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("pod", metavar="[NAMESPACE/]POD")
        command.add_argument("--container", default="vllm")
        command.set_defaults(run=_signal, signal=SIGNALS[name])
    for command in commands.choices.values():
        command.add_argument(
            "--dir", type=Path, default=Path(".run/pods"), help="where logs and state are (default: %(default)s)"
        )
    return parser


def _run(chosen: argparse.Namespace) -> int:
    if chosen.kubeconfig is None or not Path(chosen.kubeconfig).is_file():
        sys.stderr.write(f"kubeconfig {chosen.kubeconfig} is no file; give --kubeconfig or set KUBECONFIG\n")
        return 2
    return asyncio.run(_play(chosen))


async def _play(chosen: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options = {"nodes": chosen.nodes, "subnet": chosen.subnet, "in_process": chosen.in_process}
    async with PodRunner(Path(chosen.kubeconfig), chosen.dir, **options) as runner:
        print(f"playing pods with {TEST_LABEL}=true; logs in {chosen.dir}/pods", flush=True)
        ended = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(runner.failed())
        await asyncio.wait([ended, failed], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        failed.cancel()
        if failed.done() and not failed.cancelled():
            failed.result()
    return 0


def _containers(directory: Path) -> list[tuple[str, str, str, int, Path]]:
    """What the runner's folder says: (namespace, pod, container, process, log), sorted."""
    found = []
    for file in (directory / "pods").glob("*/*.pid"):
        namespace, pod, _ = file.parent.name.split("_")
        found.append((namespace, pod, file.stem, int(file.read_text()), file.with_suffix(".log")))
    return sorted(found)


def _list(chosen: argparse.Namespace) -> int:
    for namespace, pod, container, pid, log in _containers(chosen.dir):
        print(f"{namespace:<20} {pod:<24} {container:<10} {pid:>8} {log}")
    return 0


def _signal(chosen: argparse.Namespace) -> int:
    namespace, _, pod = chosen.pod.rpartition("/")
    wanted = (namespace or "default", pod, chosen.container)
    for *names, pid, _ in _containers(chosen.dir):
        if tuple(names) == wanted:
            with suppress(ProcessLookupError):
                os.killpg(pid, chosen.signal)
                return 0
    sys.stderr.write(f"no process of container {wanted[2]} in pod {wanted[0]}/{wanted[1]}; see: list\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
