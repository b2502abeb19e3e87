"""What can be read in the pictures of README.md."""

from __future__ import annotations

import pathlib
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "pictures"
SVG, HTML = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xhtml}"


def terminal_lines(name: str, besides: str = "") -> tuple[str, ...]:
    """The lines that a picture's terminals show, but for prompts and what stands in `besides`.

    A folder in the reader's home may be any: it is an ellipsis, which `missing` lets differ.
    """
    found = []
    for terminal in ET.parse(FOLDER / f"{name}.svg").getroot().iter(f"{SVG}g"):
        if not terminal.get("class", "").endswith("-matrix"):
            continue
        rows: dict[str, str] = {}
        for text in terminal.iter(f"{SVG}text"):
            row = text.get("y", "")
            rows[row] = f"{rows.get(row, '')} {''.join(text.itertext())}"
        found += [" ".join(row.replace("\xa0", " ").split()) for row in rows.values()]
    known = {" ".join(line.split()) for line in besides.splitlines()}
    kept = [line for line in found if line and not line.startswith("$ ") and line not in known]
    return tuple(line.replace("~/.local/state/ostria", "…").replace("~", "…") for line in kept)


def page_lines(name: str) -> tuple[str, ...]:
    """The texts of the page that a picture shows; the name of a pod, which is another each time, is an ellipsis."""
    (page,) = ET.parse(FOLDER / f"{name}.svg").getroot().iter(f"{HTML}html")
    for style in page.iter(f"{HTML}style"):
        style.text = ""
    found = [" ".join(text.split()) for text in page.itertext()]
    return tuple("reviews-v3-…" if text.startswith("reviews-v3-") else text for text in found if text)


def texts_of(page: str) -> list[str]:
    """The texts of a page's HTML."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign, assignment]
    parser.feed(page)
    return found
