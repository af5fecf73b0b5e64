"""The prefix cache: which weights computed the blocks that a prompt finds again.

Nothing is computed here, so a block just remembers the digest of the weights that would have filled it. Whether a later
request may reuse it depends on the release's key, and that is how stale answers come about.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_KEPT_BLOCKS = 65_536


@dataclass(frozen=True, slots=True)
class Reused:
    """How many tokens were found, and the digest of weights that computed them ("none" for none).

    Where blocks of several weights were found, `digest` is of the first that differs from the asked one.
    """

    tokens: int
    digest: str


class PrefixCache:
    """Blocks by (adapter's key, text up to the block's end), the least recently used are dropped."""

    def __init__(self, block_size: int, *, enabled: bool) -> None:
        self._block_size = block_size
        self._enabled = enabled
        self._blocks: OrderedDict[tuple[object, int], str] = OrderedDict()
        self.queries = 0
        self.hits = 0

    def reuse(self, key: object, prompt: str, digest: str) -> Reused:
        """Look `prompt` up and remember it as computed now by `digest`. The last token is always computed anew."""
        if not self._enabled:
            return Reused(0, "none")
        self.queries += len(prompt)
        found: list[str] = []
        hashes, chain = [], 0
        for start in range(0, len(prompt) - self._block_size + 1, self._block_size):
            chain = hash((chain, prompt[start : start + self._block_size]))
            hashes.append((key, chain))
        for index, block in enumerate(hashes, 1):
            if block not in self._blocks or index * self._block_size >= len(prompt):
                break
            self._blocks.move_to_end(block)
            found.append(self._blocks[block])
        stale = [d for d in found if d != digest]
        # What is computed on top of a stale prefix is as wrong as the prefix.
        source = stale[0] if stale else digest
        for block in hashes[len(found) :]:
            self._blocks.setdefault(block, source)
        while len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        tokens = len(found) * self._block_size
        self.hits += tokens
        return Reused(tokens, source if found else "none")

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
