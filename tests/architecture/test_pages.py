"""Pages hold together: links lead somewhere, commands can be read, and none is left without a run or a reason."""

from __future__ import annotations

import pathlib
import re

import pytest

from architecture.repository import ROOT, text_of
from doubles.console_blocks import blocks, missing

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
# The pages that tests/live/test_documents.py types.
TYPED = {ROOT / "README.md", *DOCS.glob("*.md")}
# Blocks in these languages are typed as well, and would escape the test.
UNTYPED = re.compile(r"^\s*```(sh|bash|shell|shell-session)\s*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """What a page's links lead to, those in code left out."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    for link in links(text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(text_of(target)), f"{page.name}: {link}"


@pytest.mark.parametrize("page", sorted(TYPED), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_typed_or_says_why_not(page: pathlib.Path) -> None:
    assert not UNTYPED.search(text_of(page)), "write ```console, and each command after `$ `"
    assert text_of(page).count("```console") == len(blocks(page))
    for block in blocks(page):
        assert block.commands, f"{block.place}: nothing is typed there: begin a command with `$ `"
        assert not block.why_not or len(block.why_not.split()) >= 3, f"{block.place}: that is no reason"


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = {(DOCS / link).resolve() for link in links(text_of(DOCS / "README.md"))}
    assert {page.resolve() for page in DOCS.glob("*.md") if page.name != "README.md"} <= listed


def test_what_is_shown_may_differ_in_numbers_only() -> None:
    assert not missing(("reviews v1  ███ 90.4%  904",), "  reviews v1 ██████████  91.0% 910\n")
    assert not missing(("Following …/mesh",), "Following /somewhere/mesh")
    assert missing(("gateway created",), "gateway configured") == ["gateway created"]
    assert missing(("READY 2/2",), "READY 2/two") == ["READY 2/2"]
