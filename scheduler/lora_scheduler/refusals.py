"""A plan's reasons, worked out when they are asked for: most never are, and there is one per adapter and pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lora_scheduler.fleet import Fleet
from lora_scheduler.model import Refusal
from lora_scheduler.reasons import reasons
from lora_scheduler.steps import Steps


class Refusals(Mapping[str, tuple[Refusal, ...]]):
    """For each of the given adapters, in that order, one refusal per pod.

    They come from the accounts of the round. When those are about to go on to another round, `detach` says how to make
    the same plan again: whoever asks an older plan gets the same answers, only later.
    """

    __slots__ = ("__weakref__", "_accounts", "_again", "_keys", "_known")

    def __init__(self, keys: tuple[str, ...], fleet: Fleet, steps: Steps) -> None:
        self._keys = dict.fromkeys(keys)
        self._accounts: tuple[Fleet, Steps] | None = fleet, steps
        self._again: Callable[[], Mapping[str, tuple[Refusal, ...]]] | None = None
        self._known: dict[str, tuple[Refusal, ...]] = {}

    def detach(self, again: Callable[[], Mapping[str, tuple[Refusal, ...]]]) -> None:
        """The accounts are no longer those of this plan; `again` makes its refusals from scratch."""
        self._accounts, self._again = None, again

    def __getitem__(self, key: str) -> tuple[Refusal, ...]:
        if key not in self._keys:
            raise KeyError(key)
        found = self._known.get(key)
        if found is None:
            if self._accounts is not None:
                fleet, steps = self._accounts
                found = reasons(fleet.allotments[key], fleet, steps)
            else:
                assert self._again is not None  # set by whoever took the accounts away
                made = self._again()
                self._again = lambda: made
                found = made[key]
            self._known[key] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return repr(dict(self))
