"""One address for every adapter: the chart's gateway, where this machine has what it is made of."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from urllib.error import URLError
from urllib.request import urlopen

from e2e.controlplane.errors import BinariesError
from e2e.controlplane.helm import find_helm
from e2e.controlplane.processes import Launcher, end, free_ports
from e2e.demo.errors import NotAsExpected
from e2e.demo.placing import check_answer
from e2e.demo.samples import NAMESPACE
from e2e.demo.stage import Stage
from e2e.envoy import ChartGateway, EnvoyUnavailable, find_envoy
from e2e.stores.store_process import StoreError
from e2e.world.engines import EngineProbe
from e2e.world.world import BASE_MODEL, SERVICE_ACCOUNT, SYSTEM_NAMESPACE

GRACE_SECONDS = 10.0


def ask_one_address(stage: Stage) -> str:
    """A request that names an adapter and no pod."""
    stage.screen.draw(["… Envoy and Helm, which take a minute or two at the first time"])
    if lacks := _lacks():
        stage.screen.say(f"Not shown here: {lacks}")
        return "the gateway is not shown: this machine lacks what it is made of"
    assert stage.plane is not None
    screen = stage.screen
    screen.say(
        "The operator's chart brings a gateway along: an Envoy that asks a router where each request goes. Here are "
        "both, with the configuration that `--set gateway.enabled=true` gives. It is all that clients of OpenAI's API "
        "need to know."
    )
    with ExitStack() as last:
        launcher = Launcher(detached=False)
        last.callback(launcher.close)
        port, picker = free_ports(2)
        kubeconfig = stage.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)
        router = launcher.start(
            [sys.executable, "-m", "lora_operator.cli.main", "router", "--kubeconfig", str(kubeconfig), "--namespace",
             NAMESPACE, "--host", "127.0.0.1", "--port", str(port), "--picker-port", str(picker),
             "--picker-self-signed", "--picker-drain-seconds", "0"],
            stage.directory / "router.log", {},
        )  # fmt: skip
        last.callback(end, router, grace_seconds=GRACE_SECONDS)
        try:
            gateway = last.enter_context(ChartGateway(picker, stage.directory / "gateway"))
        except StoreError as error:
            raise NotAsExpected(str(error)) from error
        stage.watching.until("the gateway answers", lambda _: _answers(f"{gateway.url}/v1/models"), quiet=True)
        body = '{"model": "sql", "prompt": "…", "max_tokens": 4}'
        screen.command(f"curl {gateway.url}/v1/completions -H 'Content-Type: application/json' -d '{body}'")
        probe = EngineProbe(f"127.0.0.1:{gateway.port}", timeout=60)
        answer, base = probe.complete("sql"), probe.complete(BASE_MODEL)
        screen.output(f"sql: {answer.status} {answer.text}")
        screen.output(f"{BASE_MODEL}: {base.status} {base.text}")
        check_answer(stage, answer, "sql", base)
    return "one address answered for an adapter and its base model, whichever pod has them"


def _lacks() -> str:
    """What cannot be had here; empty if all can."""
    try:
        find_envoy()
        find_helm()
    except (EnvoyUnavailable, BinariesError) as error:
        return str(error)
    return ""


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
