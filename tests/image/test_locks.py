"""What is installed into the image is what pyproject.toml asks for, in the versions that the tests run with."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from image.locks import EXTRAS, FOLDER, locks

ROOT = Path(__file__).parents[2]
AGAIN = "write it again: make image-locks"
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}


def pins(file: Path) -> dict[str, str]:
    """Version by name."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def asked_for(lock: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if lock == "build":
        return list(project["build-system"]["requires"])
    optional = project["project"]["optional-dependencies"]
    sources = [] if lock == "plugin" else optional["sources"]
    return [*project["project"]["dependencies"], *sources, *optional.get(lock, [])]


def needed(requirements: Iterable[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """The names of these and of all that they need, as far as they are installed here."""
    names: set[str] = set()
    waiting = [(text, extras) for text in requirements]
    seen = set()
    while waiting:
        text, extras = waiting.pop()
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({**LINUX, "extra": extra}) for extra in extras or {""}):
            continue
        names.add(name := canonicalize_name(requirement.name))
        if (name, wanted := frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, wanted))
        try:
            waiting += [(more, wanted) for more in requires(name) or []]
        except PackageNotFoundError:
            continue
    return names


@pytest.mark.parametrize("lock", ["plugin", "runtime", "build", *EXTRAS])
def test_a_lock_holds_what_the_project_needs(lock: str) -> None:
    missing = needed(asked_for(lock)) - set(pins(FOLDER / f"{lock}.txt"))
    assert missing == set(), f"image/requirements/{lock}.txt lacks {missing}: {AGAIN}"


@pytest.mark.parametrize("lock", ["plugin", "runtime", "build", *EXTRAS])
def test_a_lock_has_the_versions_that_the_project_asks_for(lock: str) -> None:
    locked = pins(FOLDER / f"{lock}.txt")
    wrong = [
        f"{text}: {locked[name]}"
        for text in asked_for(lock)
        if (name := canonicalize_name((requirement := Requirement(text)).name)) in locked
        and not requirement.specifier.contains(locked[name], prereleases=True)
    ]
    assert wrong == [], AGAIN


@pytest.mark.parametrize("lock", ["plugin", "runtime", *EXTRAS])
def test_the_image_holds_the_versions_that_tests_run_with(lock: str) -> None:
    tested, locked = pins(ROOT / "constraints.txt"), pins(FOLDER / f"{lock}.txt")
    assert {name: version for name, version in locked.items() if tested.get(name) != version} == {}, AGAIN


@pytest.mark.parametrize("lock", sorted(locks()))
def test_every_file_that_may_be_installed_has_a_hash(lock: str) -> None:
    text = (FOLDER / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", sorted(locks()))
def test_a_lock_names_no_index(lock: str) -> None:
    assert "://" not in (FOLDER / f"{lock}.txt").read_text()


def test_each_extra_of_the_image_is_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(EXTRAS) <= set(project["project"]["optional-dependencies"])
