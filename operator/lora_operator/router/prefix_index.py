"""Which pods probably have a prompt's beginning in their prefix cache: what was sent where, as far back as memory
goes. Pure.

Nothing is shared between routers, and no engine is asked: an engine keeps what it has computed until it needs the
room, and so does this. A prompt is a chain of hashes, one for each block of its text (`prompt_blocks`). `salt` stands
for an adapter's version: the same text is another entry for another adapter, as in the engines, and for the next one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

MOST_BLOCKS = 1_000_000  # of all pods together: some 110 MB
MOST_OF_POD = 16_384  # 4 million characters, which is more than most engines have room for


class _Pod:
    """What was sent to one pod, the newer half and the older half: where the newer is full, the older goes.

    A prompt's blocks are put into the newer one all at once, so whatever block is there, those before it are as well.
    """

    __slots__ = ("new", "old")

    def __init__(self) -> None:
        self.new: set[int] = set()
        self.old: set[int] = set()

    def __len__(self) -> int:
        """A block that is in both takes room twice."""
        return len(self.new) + len(self.old)

    def has(self, block: int) -> bool:
        return block in self.new or block in self.old


class PrefixIndex:
    """`most_blocks`: of all pods together, and `most_of_pod`: of each; neither is ever passed."""

    def __init__(self, most_blocks: int = MOST_BLOCKS, most_of_pod: int = MOST_OF_POD) -> None:
        self._most, self._most_of_pod = most_blocks, most_of_pod
        self._pods: OrderedDict[str, _Pod] = OrderedDict()  # the one that was sent to longest ago first
        self._total = 0

    def __len__(self) -> int:
        """Blocks of all pods."""
        return self._total

    def of(self, pod: str) -> int:
        """Blocks of one."""
        known = self._pods.get(pod)
        return 0 if known is None else len(known)

    def matched(self, pod: str, salt: int, blocks: Sequence[int]) -> int:
        """How many blocks of the prompt, from its beginning on, the pod probably has."""
        known = self._pods.get(pod)
        if known is None or not blocks or not known.has(blocks[0] ^ salt):
            return 0
        least, most = 1, len(blocks)
        while least < most:  # where one is, all before it are
            middle = (least + most + 1) // 2
            if known.has(blocks[middle - 1] ^ salt):
                least = middle
            else:
                most = middle - 1
        return least

    def sent(self, pod: str, salt: int, blocks: Sequence[int]) -> None:
        """A request with this prompt goes there."""
        known = self._pods.get(pod)
        if known is None:
            known = self._pods[pod] = _Pod()
        self._pods.move_to_end(pod)
        half = min(self._most_of_pod, self._most // len(self._pods)) // 2
        keys = [block ^ salt for block in blocks[:half]]
        before = len(known)
        if len(known.new) + len(keys) > half:
            known.old, known.new = known.new, set()
        known.new.update(keys)
        self._total += len(known) - before
        while self._total > self._most:
            self._give_up()

    def forget(self, pod: str) -> None:
        """It is gone, or its engine was started anew."""
        known = self._pods.pop(pod, None)
        if known is not None:
            self._total -= len(known)

    def _give_up(self) -> None:
        """The older half of the pod that was sent to longest ago, or all of it where there is no older half."""
        pod, known = next(iter(self._pods.items()))
        if known.old:
            self._total -= len(known.old)
            known.old = set()
        else:
            self.forget(pod)
