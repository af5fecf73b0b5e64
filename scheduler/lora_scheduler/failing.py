"""Which versions have failed to load and have never served: for them nobody that serves has to make room."""

from __future__ import annotations

from collections.abc import Mapping

from lora_scheduler.allotment import Allotment
from lora_scheduler.model import Pod, Reason, ResidentState


class Failing:
    """Where loads have failed, and are not due again or may fail again for the same passing reason; and what had failed
    before, when the last plan was made."""

    def __init__(self) -> None:
        self.before: Mapping[str, str] = {}  # see model.Places.failed
        self._pods: dict[str, dict[str, bool]] = {}  # by adapter and pod: whether it is to be remembered

    def note(self, old: Pod | None, new: Pod | None) -> None:
        """A pod is no longer what it was."""
        if old is not None:
            for key in _failed_on(old):
                del self._pods[key][old.key]
                if not self._pods[key]:
                    del self._pods[key]
        if new is not None:
            for key, lasts in _failed_on(new).items():
                self._pods.setdefault(key, {})[new.key] = lasts

    def has(self, allotment: Allotment) -> bool:
        """Whether the wanted version has failed, and serves nowhere."""
        adapter = allotment.adapter
        if adapter.key not in self._pods and self.before.get(adapter.key) != adapter.version:
            return False
        currents = [replica.current for replica in allotment.held()]
        return not any(current is not None and current.state is ResidentState.LOADED for current in currents)

    def versions(self, allotments: Mapping[str, Allotment]) -> dict[str, str]:
        """Those versions, by adapter: for the next plan."""
        lasting = {key for key, pods in self._pods.items() if any(pods.values())}
        known = sorted(key for key in lasting | self.before.keys() if key in allotments)
        return {key: allotments[key].adapter.version for key in known if self.has(allotments[key])}


def _failed_on(pod: Pod) -> dict[str, bool]:
    """The adapters that have failed there, and whether for reasons of their own, which do not pass."""
    failed = [key for key, (reason, _) in pod.excluded.items() if reason is Reason.LOAD_FAILED]
    return dict.fromkeys(failed, True) | dict.fromkeys(pod.failed_lately, False)
