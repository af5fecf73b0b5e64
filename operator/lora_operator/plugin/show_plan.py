"""Shows a plan: what would be done step by step, what has no place and why, and how many pods would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from lora_operator.desired.adapters import Desired
from lora_operator.plugin.screen import BAD, FAINT, GOOD, WORRYING, Screen
from lora_operator.plugin.what_if import NO_OBSTACLE, Need, Outcome
from lora_scheduler import Load, LoadCause, Snapshot, Unload, UnloadCause

LOAD_WORDS: Mapping[LoadCause, str] = {
    LoadCause.MISSING: "fewer replicas than wanted",
    LoadCause.UPDATE: "the weights changed",
    LoadCause.MOVE: "moves here from a fuller pod",
    LoadCause.SURGE: "for the time of an update",
}
UNLOAD_WORDS: Mapping[UnloadCause, str] = {
    UnloadCause.UNWANTED: "nobody wants it any more",
    UnloadCause.SURPLUS: "more replicas than wanted",
    UnloadCause.SUPERSEDED: "an old version",
    UnloadCause.PREEMPTED: "makes room for a higher priority",
}
REFUSALS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Planned:
    """`start` is what the plan began with; `unread`: LoraAdapters of which nothing is known, and why; `needs` None
    where nobody asked."""

    desired: Desired
    start: Snapshot
    outcome: Outcome
    unread: Mapping[str, str]
    notes: tuple[str, ...]
    needs: tuple[Need, ...] | None

    @property
    def rejected(self) -> list[tuple[str, str, str]]:
        """(adapter, reason, message) of what is wanted and cannot be served anywhere."""
        return [
            (f"{key}/{item.name}", item.code, item.message)
            for key, each in self.desired.resources.items()
            for item in each.rejected
        ]

    @property
    def lacks(self) -> bool:
        """Whether anything stays without a place."""
        return bool(self.outcome.missing or self.unread or self.rejected)

    def steps(self) -> list[dict[str, Any]]:
        """All actions in order; what has the same number happens at the same time."""
        return [
            {"step": number, **_action(action)}
            for number, actions in enumerate(self.outcome.rounds, start=1)
            for action in actions
        ]

    def unplaced(self) -> list[dict[str, Any]]:
        """What has no place, with the reason of each pod."""
        last = self.outcome.last
        return [
            {
                "adapter": key,
                "missing": count,
                "refusals": [
                    {"pod": r.pod, "reason": str(r.reason), "message": r.message}
                    for r in last.refusals.get(key, ())
                    if r.reason not in NO_OBSTACLE
                ],
            }
            for key, count in last.missing.items()
            if count
        ]

    def document(self) -> dict[str, Any]:
        """For programs."""
        document: dict[str, Any] = {
            "complete": not self.lacks,
            "steps": self.steps(),
            "assignments": {key: list(pods) for key, pods in self.outcome.last.assignments.items()},
            "unplaced": self.unplaced(),
            "rejected": [{"adapter": a, "reason": r, "message": m} for a, r, m in self.rejected],
            "unread": [{"resource": key, "message": why} for key, why in self.unread.items()],
            "notes": list(self.notes),
        }
        if self.needs is not None:
            document["podsNeeded"] = [
                {"like": need.like, "pods": need.pods, "placed": need.placed, "enough": need.enough}
                for need in self.needs
            ]
        return document


def _action(action: Load | Unload) -> dict[str, Any]:
    if isinstance(action, Load):
        return {"action": "load", "adapter": action.adapter.rpartition("/")[2], "pod": action.pod,
                "cause": str(action.cause), "why": LOAD_WORDS[action.cause], "for": None}  # fmt: skip
    why = UNLOAD_WORDS[action.cause]
    return {"action": "unload", "adapter": action.name, "pod": action.pod,
            "cause": str(action.cause), "why": why, "for": action.on_behalf_of}  # fmt: skip


def draw(screen: Screen, planned: Planned) -> None:
    """For people."""
    snapshot = planned.start
    replicas = sum(len(pods) for pods in planned.outcome.last.assignments.values())
    screen.line(
        f"{_number(len(planned.desired.resources), 'LoraAdapter')}, {_number(len(snapshot.adapters), 'adapter')}, "
        f"{_number(len(snapshot.pods), 'pod')}: {_number(replicas, 'replica', 'replicas')} placed",
        FAINT,
    )
    for note in planned.notes:
        screen.line(f"note: {note}", WORRYING)
    one = len({pod.namespace for pod in snapshot.pods}) <= 1
    steps = planned.steps()
    if steps:
        screen.table(("STEP", "DO", "ADAPTER", "POD", "WHY"), (_row(step, one) for step in steps))
    else:
        screen.line("Nothing to do.", GOOD)
    _draw_lacking(screen, planned, one)
    if planned.needs is not None:
        _draw_needs(screen, planned, one)


def _row(step: dict[str, Any], bare: bool) -> list[str | Text]:
    on_behalf = f" ({step['for'].rpartition('/')[2]})" if step["for"] else ""
    style = GOOD if step["action"] == "load" else WORRYING
    return [
        str(step["step"]), Text(step["action"], style), step["adapter"], _pod(step["pod"], bare),
        step["why"] + on_behalf,
    ]  # fmt: skip


def _draw_lacking(screen: Screen, planned: Planned, bare: bool) -> None:
    for item in planned.unplaced():
        screen.line()
        replicas = _number(item["missing"], "replica", "replicas")
        screen.line(f"{item['adapter']}: {replicas} without a place", BAD)
        if not item["refusals"]:
            screen.line("  no other pod serves this base model and matches the podSelector")
            continue
        refusals = item["refusals"]
        rows: list[list[str | Text]] = [
            ["  " + _pod(r["pod"], bare), Text(r["reason"], BAD), r["message"]] for r in refusals[:REFUSALS_SHOWN]
        ]
        screen.table(("  POD", "REASON", "WHY"), rows)
        left = Counter(r["reason"] for r in refusals[REFUSALS_SHOWN:])
        if left:
            screen.line("  and " + ", ".join(f"{count} x {reason}" for reason, count in left.most_common()))
    for adapter, reason, message in planned.rejected:
        screen.line()
        screen.line(f"{adapter}: {reason}: {message}", BAD)
    for resource, why in planned.unread.items():
        screen.line()
        screen.line(f"LoraAdapter {resource} is not counted: {why}", BAD)


def _draw_needs(screen: Screen, planned: Planned, bare: bool) -> None:
    assert planned.needs is not None
    screen.line()
    if not planned.outcome.missing:
        screen.line("No more pods are needed.", GOOD)
        return
    for need in planned.needs:
        what = f"{_number(need.pods, 'more pod')} like {_pod(need.like, bare)}"
        screen.line(f"{what}: a place for {_number(need.placed, 'more replica', 'more replicas')}", WORRYING)
    if not planned.needs or not planned.needs[-1].enough:
        screen.line("More pods like those that there are do not place the rest: their limits are too small.", BAD)


def _pod(key: str, bare: bool) -> str:
    return key.rpartition("/")[2] if bare else key


def _number(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
