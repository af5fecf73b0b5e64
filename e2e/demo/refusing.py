"""What cannot be served is refused with a reason, and nothing else suffers."""

from __future__ import annotations

from e2e.demo.engines import MAX_RANK
from e2e.demo.errors import NotAsExpected
from e2e.demo.samples import TOO_HIGH_RANK
from e2e.demo.shown import shown
from e2e.demo.stage import Stage

REFUSED = {"too-large": "RankTooHigh", "torn": "FileTruncated"}


def refuse(stage: Stage) -> str:
    """A folder with a good adapter, one of too high a rank, and one whose upload broke off."""
    screen, samples = stage.screen, stage.samples
    samples.adapter("mixed/good", seed=20)
    samples.adapter("mixed/too-large", seed=21, rank=TOO_HIGH_RANK)
    samples.truncated("mixed/torn", seed=22)
    mixed = samples.lora_adapter("mixed", "mixed")
    screen.say(
        f"One more folder: a good adapter, one of rank {TOO_HIGH_RANK} where pods take {MAX_RANK}, and one whose "
        "upload broke off. The good one is served; status says of each of the others why it is not."
    )
    screen.command(f"kubectl apply -f {shown(mixed)}")
    fleet, (seconds,) = stage.watching.until(
        f"mixed serves good and refuses {', '.join(REFUSED)}",
        lambda fleet: (one := fleet.resource("mixed")) is not None and dict(one.failed) == REFUSED and bool(one.named),
        act=lambda: stage.kubectl("apply", "-f", str(mixed)),
    )
    reasons = "{range .status.failedAdapters[*]}{.name}: {.reason}{'\\n'}    {.message}{'\\n'}{end}"
    screen.command(f'kubectl get la mixed -o jsonpath="{reasons}"')
    screen.output(stage.kubectl("get", "la", "mixed", "-o", f"jsonpath={reasons}"))
    screen.command("kubectl get loraadapters -o wide")
    screen.output(stage.kubectl("get", "loraadapters", "-o", "wide"))
    columns = "custom-columns=TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message"
    events = ("get", "events", "--field-selector=involvedObject.kind=LoraAdapter", "-o", columns)
    screen.command(f"kubectl {' '.join(events)}")
    screen.output(stage.kubectl(*events))
    found = fleet.resource("mixed")
    assert found is not None
    if found.phase != "Partial" or found.ready:
        raise NotAsExpected(f"mixed is {found.phase} and Ready={found.ready}; expected Partial and Ready=False")
    return f"1 adapter served, 2 refused with their reasons, {seconds:.2f} s after kubectl began"


def delete(stage: Stage) -> str:
    """The end of all LoraAdapters."""
    names = sorted(stage.watching.look().resources or {})
    stage.screen.say("LoraAdapters that are deleted are unloaded everywhere, and then they are gone.")
    stage.screen.command("kubectl delete loraadapters --all")
    _, (seconds,) = stage.watching.until(
        "every LoraAdapter is gone and every engine is empty",
        lambda fleet: not fleet.resources and all(pod.loaded == {} for pod in fleet.pods),
        act=lambda: stage.kubectl("delete", "loraadapters", "--all", "--timeout=30s"),
    )
    return f"{len(names)} LoraAdapters gone and every engine empty after {seconds:.2f} s"
