"""Any order of adding, using, pinning, holding, removing, ageing, restarting and dying: what must hold, holds."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lora_operator.cache.limits import Limits
from lora_operator.cache.policies import POLICIES
from lora_operator.cache.store_error import CacheFull
from lora_operator.cache.used import used_bytes
from lora_operator.cache.volume import StoreError, VolumeStore
from tests.cache.dying import dies_at
from tests.cache.stored_versions import Clock, add, files_of, filler, key_of, stored

T = TypeVar("T")
SIZES = {name: 600 + 250 * number for number, name in enumerate("abcdefg")}
BUDGET_BYTES = 4000
NAMES = st.sampled_from(sorted(SIZES))
PODS = st.sampled_from(["ns/x", "ns/y"])


class CacheMachine(RuleBasedStateMachine):
    """One root, one process at a time. `kept` are names by what keeps them."""

    @initialize(policy=st.sampled_from(sorted(POLICIES)))
    def begin(self, policy: str) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.policy = policy
        self.pinned: set[str] = set()
        self.in_use: set[str] = set()
        self.held: dict[str, set[str]] = {}
        self.store = self.new_store()

    def new_store(self) -> VolumeStore:
        return VolumeStore(
            self.root,
            limits=Limits(budget_bytes=BUDGET_BYTES, ttl_seconds=1000, grace_seconds=0),
            policy=POLICIES[self.policy],
            in_use=lambda: {key_of(name) for name in self.in_use},
            on_evicted=lambda gone: self.check_allowed(gone.name),
            clock=self.clock,
        )

    @property
    def safe(self) -> set[str]:
        return self.pinned | self.in_use | set().union(*self.held.values())

    def check_allowed(self, name: str) -> None:
        assert name not in self.safe

    def do(self, work: Awaitable[T]) -> T:
        self.clock.now += 1

        async def run() -> T:
            return await work

        return asyncio.run(run())

    @rule(name=NAMES, prefetch=st.booleans())
    def add(self, name: str, prefetch: bool) -> None:
        before = stored(self.root)
        try:
            self.do(add(self.store, name, SIZES[name], prefetch=prefetch))
        except CacheFull as full:
            assert name not in before
            free = BUDGET_BYTES - sum(before[kept] for kept in self.safe)
            assert SIZES[name] > free
            assert stored(self.root) == before
            assert full.in_use_bytes + full.pinned_bytes == sum(before[kept] for kept in self.safe)
        else:
            assert name in stored(self.root)

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        assert self.do(self.store.use(*key_of(name))) == (name in stored(self.root))

    @rule(name=NAMES, pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        try:
            self.do(self.store.pin(*key_of(name), pinned=pinned))
        except StoreError:
            assert name not in stored(self.root)
        else:
            self.pinned = self.pinned | {name} if pinned else self.pinned - {name}

    @rule(pod=PODS, names=st.sets(NAMES, max_size=2))
    def hold(self, pod: str, names: set[str]) -> None:
        there = self.do(self.store.hold(pod, {key_of(name) for name in names}))
        self.held[pod] = {name for name, _ in there}
        assert self.held[pod] == names & set(stored(self.root))

    @rule(pod=PODS)
    def let_go(self, pod: str) -> None:
        self.do(self.store.let_go(pod))
        self.held.pop(pod, None)

    @rule(names=st.sets(NAMES, max_size=2))
    def load(self, names: set[str]) -> None:
        self.in_use = names & set(stored(self.root))

    @rule(name=NAMES)
    def evict(self, name: str) -> None:
        before = set(stored(self.root))
        try:
            assert self.do(self.store.evict(*key_of(name))) == (name in before)
        except StoreError:
            assert name in self.safe

    @rule(seconds=st.sampled_from([10, 600, 2000]))
    def age_and_sweep(self, seconds: int) -> None:
        self.clock.now += seconds
        self.do(self.store.sweep({key_of(name) for name in self.in_use}))
        if seconds == 2000:
            assert set(stored(self.root)) == self.safe

    @rule(name=NAMES, step=st.integers(0, 90))
    def die(self, name: str, step: int) -> None:
        if name in stored(self.root):
            return
        dies_at(step, lambda: add(self.new_store(), name, SIZES[name]))  # a fork has no threads of its parent
        self.store = self.new_store()
        self.do(self.store.start())

    @rule(name=NAMES)
    def disk_is_full_once(self, name: str) -> None:
        before = stored(self.root)
        calls: list[str] = []
        whole = filler(name, SIZES[name], calls)

        async def fill(folder: Path) -> None:
            await whole(folder)
            if len(calls) == 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        try:
            self.do(self.store.add(*key_of(name), files_of(SIZES[name]), fill))
        except StoreError as error:
            assert error.reason in ("CacheFull", "DiskFull")
        assert len(calls) <= (0 if name in before else 2)

    @invariant()
    def nothing_needed_is_gone_and_the_budget_is_held(self) -> None:
        there = stored(self.root)
        assert self.safe <= set(there)
        assert sum(there.values()) <= BUDGET_BYTES
        assert used_bytes(self.root) in (None, sum(there.values()))
        assert not list((self.root / ".tmp").glob("*"))

    def teardown(self) -> None:
        if hasattr(self, "root"):
            entries = self.do(self.new_store().entries())
            assert {entry.name for entry in entries if entry.pinned} == self.pinned
            shutil.rmtree(self.root)


TestCacheMachine = CacheMachine.TestCase
# no shrinking: with children and disks it takes many minutes, and the steps that are printed are few enough
TestCacheMachine.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
