"""Requests as a router sends them: to the pods that status names at that moment, one after the other, until stopped."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import count
from types import TracebackType

from e2e.demo.samples import NAMESPACE
from e2e.world.engines import Answer, EngineProbe
from e2e.world.rest import GROUP, Json, Rest


class Traffic:
    """`with Traffic(rest, "sql") as traffic: …`, then `answers` by what computed them, and `failures` in words."""

    def __init__(self, rest: Rest, adapter: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.stale = 0
        self._rest = rest
        self._adapter = adapter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._rest.close()

    @property
    def total(self) -> int:
        return self.answers.total() + len(self.failures)

    def _run(self) -> None:
        for number in count():
            if self._stop.is_set():
                return
            try:
                status = self._rest.get(f"{GROUP}/namespaces/{NAMESPACE}/loraadapters/{self._adapter}").get("status")
                named = [one for one in (status or {}).get("podAssignments") or () if self._adapter in one["adapters"]]
                if not named:
                    self.failures.append("status names no pod")
                    self._stop.wait(0.05)
                    continue
                self._ask(named[number % len(named)])
            except OSError as error:
                self.failures.append(str(error))
                self._stop.wait(0.05)

    def _ask(self, assignment: Json) -> None:
        engine_names = {one["name"]: one["engineName"] for one in assignment.get("engineNames") or ()}
        model = engine_names.get(self._adapter, self._adapter)
        answer = EngineProbe(assignment["address"]).complete(model)
        if answer.status != 200:
            self.failures.append(f"{assignment['pod']} answered {answer.status}: {answer.text}")
            return
        self.stale += answer.stale
        self.answers[computed_by(answer)] += 1


def computed_by(answer: Answer) -> str:
    """The weights that a simulator names; of a real engine, which names none, the answer itself."""
    return answer.weights or repr(answer.text)
