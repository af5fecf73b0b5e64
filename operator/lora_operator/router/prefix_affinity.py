"""What a prompt costs on each pod that holds its adapter: less where its beginning is cached, more where prompts are
being computed. Pure; the policies of the routing library weigh it against load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.prefix_index import MOST_BLOCKS, PrefixIndex
from lora_operator.router.prompt_blocks import BLOCKS_OF_THOUSAND, Prompt

MOST_HOLDERS = 64  # that are compared
SESSION = 0.25  # thousand tokens: a session's pod is preferred where nothing else says, and not for any load
HALF_LIFE_SECONDS = 0.25  # of what is being computed: engines take some 10,000 tokens a second
WINDOW_BLOCK = 4  # by this block of the prompt holders are chosen, where there are too many


class PrefixAffinity:
    """`most_blocks`: of all pods together; 0: prompts do not count. Tell it of what was sent, and of pods that are gone
    or were started anew."""

    def __init__(self, most_blocks: int = MOST_BLOCKS) -> None:
        self.index = PrefixIndex(most_blocks)
        self.on = most_blocks > 0
        self.cached_blocks = self.other_blocks = 0  # of the prompts that were sent
        self._computing: dict[str, tuple[float, float]] = {}  # pod -> thousands of tokens, as of when

    def saved(self, entry: Entry, prompt: Prompt, now: float) -> dict[str, float]:
        """Pod (its key) -> thousands of tokens that need not be computed there, less what is being computed already."""
        found = {}
        for one in _window(entry.endpoints, prompt):
            pod, salt = f"{entry.namespace}/{one.pod}", salt_of(entry, one)
            thousands = self.index.matched(pod, salt, prompt.blocks) / BLOCKS_OF_THOUSAND
            if prompt.session and self.index.matched(pod, salt, (prompt.session,)):
                thousands += SESSION
            found[pod] = thousands - self._left(pod, now)
        return found

    def sent(self, entry: Entry, to: Endpoint, prompt: Prompt, now: float) -> None:
        """The request goes there."""
        pod, salt = f"{entry.namespace}/{to.pod}", salt_of(entry, to)
        cached = self.index.matched(pod, salt, prompt.blocks)
        self.cached_blocks += cached
        self.other_blocks += len(prompt.blocks) - cached
        more = max(0.0, prompt.thousands - cached / BLOCKS_OF_THOUSAND)
        self._computing[pod] = (self._left(pod, now) + more, now)
        self.index.sent(pod, salt, prompt.blocks)
        if prompt.session:
            self.index.sent(pod, salt, (prompt.session,))

    def forget(self, pod: str) -> None:
        """By its key: it is gone, or its engine was started anew."""
        self.index.forget(pod)
        self._computing.pop(pod, None)

    def _left(self, pod: str, now: float) -> float:
        thousands, at = self._computing.get(pod, (0.0, now))
        return thousands * 0.5 ** ((now - at) / HALF_LIFE_SECONDS) if thousands else 0.0


def salt_of(entry: Entry, endpoint: Endpoint) -> int:
    """Engines keep what they have computed by adapter, and a new version begins with nothing."""
    return hash((entry.namespace, entry.name, endpoint.version, endpoint.engine_name))


def _window(endpoints: Sequence[Endpoint], prompt: Prompt) -> Iterable[Endpoint]:
    """All of them, or where they are too many as many that follow each other, the same for the turns of one chat."""
    count = len(endpoints)
    if count <= MOST_HOLDERS:
        return endpoints
    blocks = prompt.blocks
    mark = prompt.session or (blocks[min(len(blocks), WINDOW_BLOCK) - 1] if blocks else 0)
    start = mark % count
    return (endpoints[(start + place) % count] for place in range(MOST_HOLDERS))
