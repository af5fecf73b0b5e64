"""What a pod's base model is called: the annotation, then the command line as far as the engine confirms it, then the
engine's own list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_operator.artifacts.base_name import UNKNOWN_MODEL
from lora_operator.engines.liveness import EngineView
from lora_operator.engines.served_names import ServedNames, names_of_model
from lora_operator.informers.endpoints import Contents
from lora_operator.informers.pod_description import Naming
from lora_operator.informers.records import PodRecord
from lora_operator.vllm.client import EngineModel
from tests.core.builders import V1, a_pod, an_engine


def an_unnamed_pod() -> PodRecord:
    record = a_pod()
    return replace(record, pod=replace(record.pod, base_models=(), named_by=Naming.DEFAULT, model=None))


def serving(record: PodRecord, *names: str, root: str = "/mnt/models") -> EngineView:
    bases = tuple(EngineModel(name, root, None) for name in names)
    return replace(an_engine(record), bases=bases)


def names(record: PodRecord, view: EngineView | None, known: ServedNames | None = None) -> tuple[str, ...]:
    known = known or ServedNames(lambda pod: None)
    completed = known.of({record.key: record}, {record.key: view} if view is not None else {})
    return completed[record.key].pod.base_models


def test_the_engine_names_the_model_of_a_pod_that_does_not() -> None:
    record = an_unnamed_pod()
    assert names(record, None) == ()
    assert names(record, serving(record, "granite", "org/granite")) == ("granite", "org/granite")


def test_the_engine_corrects_a_command_line_and_not_an_annotation() -> None:
    record = a_pod()
    assert names(record, serving(record, "chat")) == ("chat",)
    assert names(record, serving(record, "tiny", "chat")) == ("tiny",), "a part of its names is enough for it"
    said = a_pod(annotations={"base-model": "ours"})
    assert names(said, serving(said, "chat")) == ("ours",)


def test_what_was_heard_counts_while_the_pod_lives() -> None:
    record, known = an_unnamed_pod(), ServedNames(lambda pod: None)
    assert names(record, serving(record, "granite"), known) == ("granite",)
    assert names(record, EngineView("uid-p0/another-container"), known) == ("granite",)
    assert names(replace(record, uid="another"), None, known) == ()


def test_an_unchanged_pod_is_the_same_object_round_after_round() -> None:
    record, known = an_unnamed_pod(), ServedNames(lambda pod: None)
    view = serving(record, "granite")
    first = known.of({record.key: record}, {record.key: view})[record.key]
    assert known.of({record.key: record}, {record.key: view})[record.key] is first
    assert known.of({record.key: a_pod()}, {})[record.key].pod.base_models == ("granite",)


@pytest.mark.parametrize(("uid", "expected"), [("uid-p0", ("granite",)), ("one-before", ())])
def test_a_new_operator_goes_by_what_was_published_of_this_pod(uid: str, expected: tuple[str, ...]) -> None:
    said = Contents(uid, "10.0.0.1:8000", "c", ("granite",), ())
    assert names(an_unnamed_pod(), None, ServedNames(lambda pod: said)) == expected


def test_adapters_that_a_proxy_lists_without_their_parent_are_no_base_models() -> None:
    record = an_unnamed_pod()
    view = replace(an_engine(record), bases=(EngineModel("sql", f"/adapters/sql/{V1}", None),))
    assert names(record, view) == ()


def test_the_model_behind_the_names_is_one_of_its_names_or_unknown() -> None:
    record = an_unnamed_pod()
    assert names_of_model(record, None) == (UNKNOWN_MODEL,)
    assert names_of_model(record, serving(record, "chat", root="org/base-7b")) == ("org/base-7b",)
    assert names_of_model(a_pod(), None) == ("tiny", "tiny")
