"""Why adapters lack replicas, pod by pod, worked out a few at a time: there is one reason for each adapter and pod, and
in a large fleet that lacks room more than a round has time for."""

from __future__ import annotations

from operator import is_

from lora_scheduler import Plan, Reason, Refusal, Snapshot

AT_A_TIME = 20_000  # reasons in one round
# until it is worked out; what it says heals by waiting
NOT_YET = (Refusal("", Reason.POD_NOT_READY, "the pods are still being looked through"),)


class Reasons:
    """Of one plan after the other."""

    def __init__(self) -> None:
        self._snapshot = Snapshot((), ())
        self._known: dict[str, tuple[Refusal, ...]] = {}  # what was worked out longest ago first
        self._due: set[str] = set()

    @property
    def unfinished(self) -> bool:
        """Whether some are not those of this plan."""
        return bool(self._due)

    def update(self, snapshot: Snapshot, plan: Plan) -> None:
        """Take over a plan: the very same snapshot has the same reasons."""
        lacking = plan.refusals.keys()
        for key in [key for key in self._known if key not in lacking]:
            del self._known[key]
        if _same(self._snapshot, snapshot):
            self._due = {key for key in lacking if key in self._due or key not in self._known}
        else:
            self._due = set(lacking)
        self._snapshot = snapshot
        if not self._due:
            return
        most = max(AT_A_TIME // max(len(snapshot.pods), 1), 1)
        # those of which nothing is known come first
        fresh = [key for key in lacking if key not in self._known]
        for key in [*fresh, *(key for key in self._known if key in self._due)][:most]:
            self._known.pop(key, None)
            self._known[key] = plan.refusals[key]
            self._due.discard(key)

    def of(self, key: str) -> tuple[Refusal, ...]:
        """Why this adapter lacks replicas; empty if it lacks none."""
        return self._known.get(key, NOT_YET if key in self._due else ())


def _same(one: Snapshot, other: Snapshot) -> bool:
    return (
        len(one.pods) == len(other.pods)
        and len(one.adapters) == len(other.adapters)
        and all(map(is_, one.pods, other.pods))
        and all(map(is_, one.adapters, other.adapters))
    )
