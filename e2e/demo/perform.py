"""One whole demo: the stage is set, the steps are shown, and everything is ended or left running."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from e2e.controlplane import ControlPlaneError
from e2e.controlplane.errors import BinariesError
from e2e.demo.engines import engine
from e2e.demo.errors import DemoError
from e2e.demo.samples import NAMESPACE
from e2e.demo.screen import Screen
from e2e.demo.show import LAST_STEPS, STEPS, Shown, show, summary
from e2e.demo.shown import python, shown
from e2e.demo.stage import Stage
from e2e.demo.uploads import open_store
from e2e.demo.workplace import engine_port, workplace
from e2e.world import WaitError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

# what the steps and all that they use raise when something is not as it should be
FAILURES = (
    DemoError, ControlPlaneError, WaitError, requests.RequestException, subprocess.SubprocessError, OSError
)  # fmt: skip


def perform(
    directory: Path, screen: Screen, *, kind: str, port: int | None, keep: bool, store: str | None = None
) -> int:
    """The exit code: 0 if all was shown, 1 if something was not as it should be.

    Raises:
        CannotStart, BinariesError: something is in the way or lacking; nothing was started.
    """
    with workplace(directory):
        began = time.monotonic()
        screen.title("lora-operator: keeps LoRA adapters loaded on vLLM pods")
        fleet = engine(kind, directory)
        upload = open_store(store, directory) if store is not None else None
        stage = Stage(directory, fleet, engine_port(port), screen, detached=keep, upload=upload)
        left = False
        try:
            stage.start()
            screen.good(f"up after {time.monotonic() - began:.1f} s")
            code = _play(stage, keep, began)
            left = keep
        except (BinariesError, BrokenPipeError):
            raise
        except FAILURES as error:
            _explain(stage, error)
            code = 1
        finally:
            if not left:
                _end(stage)
        if left:
            stage.let_go()
            _say_how_to_use(stage)
        return code


def _play(stage: Stage, keep: bool, began: float) -> int:
    try:
        seen = show(stage, STEPS if keep else (*STEPS, *LAST_STEPS))
    except BrokenPipeError:
        raise
    except FAILURES as error:
        _explain(stage, error)
        return 1
    _sum_up(stage, seen, time.monotonic() - began)
    return 0


def _sum_up(stage: Stage, seen: list[Shown], seconds: float) -> None:
    stage.screen.title("Summary")
    stage.screen.output("\n".join(summary(seen)))
    stage.screen.good(f"all as promised, in {seconds:.1f} s; logs and data are in {shown(stage.directory)}")


def _explain(stage: Stage, error: BaseException) -> None:
    screen = stage.screen
    screen.title("Not as it should be")
    screen.bad(str(error) or repr(error))
    try:
        stage.check()
    except DemoError as cause:
        if str(cause) != str(error):
            screen.bad(str(cause))
    if stage.logs["operator"].exists():
        screen.say(f"The end of the operator's log, {shown(stage.logs['operator'])}:")
        screen.output(stage.operator_log())
    _list_logs(stage)


def _list_logs(stage: Stage) -> None:
    stage.screen.say("Logs:")
    for name, path in stage.logs.items():
        stage.screen.output(f"  {name:<12} {shown(path)}")


def _end(stage: Stage) -> None:
    # an impatient second interrupt would leave half of it
    before = [signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS]
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        stage.stop()
    finally:
        for number, handler in zip(INTERRUPTS, before, strict=True):
            signal.signal(number, handler)


def _say_how_to_use(stage: Stage) -> None:
    assert stage.plane is not None
    screen = stage.screen
    screen.title("Everything is left running")
    screen.command(f"export KUBECONFIG={stage.kubeconfig}")
    folders = [Path(sys.executable).parent, *([] if stage.plane.existing else [stage.plane.kubectl_path.parent])]
    screen.command(f'export PATH="{":".join(map(str, folders))}:$PATH"')
    screen.command("kubectl get loraadapters,pods -o wide")
    screen.command("kubectl lora why too-large")
    screen.command("kubectl lora top --once --direct")
    screen.command("kubectl scale la/sql --replicas=1")
    screen.say(f"The operator reads adapters from {stage.samples.source} (--local-root) and nowhere else.")
    screen.say(
        f"There is no kubelet: what plays it restarts engines that die, and can kill them (namespace {NAMESPACE}):"
    )
    screen.command(python("-m", "e2e.pods", "kill", f"{NAMESPACE}/vllm-0", "--dir", shown(stage.directory / "pods")))
    screen.say("The operator answers at:")
    for what, address in stage.addresses.items():
        screen.output(f"  {what:<12} {address}")
    _list_logs(stage)
    screen.say("To end everything:")
    screen.command("make demo-down")
