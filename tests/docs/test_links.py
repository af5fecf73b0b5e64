"""Links lead somewhere, and every page is found from the first one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from tests.docs.pages import PAGES, ROOT, anchors_of, links_of

ELSEWHERE = ("https://", "http://", "mailto:")


def target(page: str, link: str) -> tuple[str, str]:
    """File from the repository's root, and anchor."""
    file, _, anchor = link.partition("#")
    whole = (ROOT / PurePosixPath(page).parent / file).resolve() if file else ROOT / page
    assert whole.is_relative_to(ROOT), f"{page}: {link} leads out of the repository"
    return str(whole.relative_to(ROOT)), anchor


def inner_links(page: str) -> list[str]:
    return [link for link in links_of(page) if not link.startswith(ELSEWHERE)]


def test_every_link_leads_to_a_file_and_heading_that_exist() -> None:
    broken = []
    for page in PAGES:
        for link in inner_links(page):
            file, anchor = target(page, link)
            if not (ROOT / file).exists() or (anchor and anchor not in anchors_of(file)):
                broken.append(f"{page}: {link}")
    assert broken == []


def test_every_page_can_be_found_from_the_readme() -> None:
    found, left = {"README.md"}, ["README.md"]
    while left:
        page = left.pop()
        new = {target(page, link)[0] for link in inner_links(page)} & PAGES.keys() - found
        found |= new
        left += new
    assert sorted(PAGES.keys() - found) == []


def test_the_index_of_the_docs_names_every_page() -> None:
    named = {target("docs/index.md", link)[0] for link in inner_links("docs/index.md")}
    assert sorted(page for page in PAGES if page.startswith("docs/") and page not in named | {"docs/index.md"}) == []


def test_every_picture_is_shown_somewhere() -> None:
    shown = {target(page, link)[0] for page in PAGES for link in inner_links(page)}
    pictures = {str(path.relative_to(ROOT)) for path in Path(ROOT / "docs" / "images").iterdir()}
    assert sorted(pictures - shown) == []
