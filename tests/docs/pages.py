"""The pages for users: their text, their headings as links name them, their links and their code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")


def code_of(page: str, *languages: str) -> Iterator[str]:
    """What stands in fences of these languages, without the fence's indentation."""
    for indent, language, text in _FENCE.findall(PAGES[page]):
        if language in languages:
            yield re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def prose_of(page: str) -> str:
    """The page without fences and code."""
    return re.sub(r"``.*?``|`[^`\n]*`", "", _FENCE.sub("", PAGES[page]))


def links_of(page: str) -> Iterator[str]:
    """As they are written."""
    yield from _LINK.findall(prose_of(page))


def anchors_of(page: str) -> set[str]:
    """The names of headings, as GitHub and mkdocs make them."""
    found: set[str] = set()
    for line in re.sub(r"```.*?^ *```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE).splitlines():
        if re.match(r"#{1,6} ", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("# ").strip().lower())
            name = re.sub(r"[^\w -]", "", text).replace(" ", "-")
            number = 1
            while name in found:  # a second heading of the same words
                name, number = f"{name.removesuffix(f'-{number - 1}')}-{number}", number + 1
            found.add(name)
    return found
