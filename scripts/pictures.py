"""Draw the pictures of README.md from real runs: `make pictures`, which takes a minute and leaves no mesh behind.

    a mesh of its own -> what its commands print, in a terminal of 104 columns -> docs/pictures/*.svg

What a command prints is drawn as it is, but for lines of waiting and for this machine's folders. The page is the
page itself: its HTML and its style stand in the picture, for the reader's browser to draw.
"""

from __future__ import annotations

import fcntl
import html
import io
import os
import pathlib
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import urllib.parse
import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import NamedTuple

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
BIN = pathlib.Path(sys.executable).parent
COLUMNS = 104
# Said while it waits, or because another program has a port: of this machine, and of this time.
PASSING = re.compile(r"^(- |port \d+ is taken)")
RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v3}, weight: 10}
"""
VOID = ("meta", "link", "input", "br", "hr", "img")


class Drawn(NamedTuple):
    """A part of a picture, and how large it is, in pixels."""

    svg: str
    width: float
    height: float


def typed(line: str, env: Mapping[str, str], folder: pathlib.Path) -> str:
    """The prompt, the line, and what the command prints on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(line, shell=True, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=folder)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:
        # EIO: the last who had the terminal has gone.
        pass
    if process.wait():
        sys.exit(f"error: {line}: {process.returncode}\n{said.decode(errors='replace')}")
    kept = [each for each in said.decode().replace("\r", "").split("\n") if not PASSING.match(each)]
    home = re.sub(r"/$", "", env["OSTRIA_HOME"])
    text = "\n".join(kept).rstrip().replace(str(folder), "~").replace(home, "~/.local/state/ostria")
    return f"\x1b[1m$ {line}\x1b[0m\n{text}\n"


def terminal(title: str, text: str) -> Drawn:
    """A terminal's window. No font is fetched: the reader's own is used."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text), end="")
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title=title, code_format=without_fonts.replace("Fira Code", "ui-monospace"))
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size
    return Drawn(svg, float(size[1]), float(size[2]))


class _Xml(HTMLParser):
    """HTML as XML, which is what an SVG takes: every element closed, the style sheet in its place."""

    def __init__(self, style: str) -> None:
        super().__init__(convert_charrefs=True)
        self._style = style
        self.xml = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "link":
            self.xml += f"<style>{html.escape(self._style, quote=False)}</style>"
            return
        given = "".join(f' {name}="{html.escape(value or "")}"' for name, value in attrs)
        namespace = ' xmlns="http://www.w3.org/1999/xhtml"' if tag == "html" else ""
        self.xml += f"<{tag}{namespace}{given}{'/' if tag in VOID else ''}>"

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self.xml += f"</{tag}>"

    def handle_data(self, data: str) -> None:
        self.xml += html.escape(data, quote=False)


def page(url: str) -> Drawn:
    """The page in a browser's window: with stars, so it is asked until a version that has them answers."""
    text = ""
    while "color: #ba2525" not in text:
        text = read(url)
    xml = _Xml(read(urllib.parse.urljoin(url, "/static/style.css")))
    xml.feed(text)
    width, height = 820, 780
    return Drawn(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="8" fill="#ffffff" stroke="#888888"/>'
        f'<path d="M1 41V9a8 8 0 0 1 8-8H{width - 9}a8 8 0 0 1 8 8v32z" fill="#e8e8e8"/>'
        '<g fill="#ff5f57"><circle cx="24" cy="21" r="6"/></g><circle cx="44" cy="21" r="6" fill="#febc2e"/>'
        '<circle cx="64" cy="21" r="6" fill="#28c840"/>'
        f'<text x="90" y="26" font-family="sans-serif" font-size="14" fill="#333333">{html.escape(url)}</text>'
        f'<foreignObject x="4" y="44" width="{width - 8}" height="{height - 50}">{xml.xml}</foreignObject></svg>',
        width,
        height,
    )


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def beside(name: str, *parts: Drawn) -> None:
    """Write a picture of several parts, one below the other if they are many columns wide."""
    width = max(part.width for part in parts)
    inner, y = "", 0.0
    for part in parts:
        place = (
            f'<svg x="{(width - part.width) / 2:.0f}" y="{y:.0f}" width="{part.width:.0f}" height="{part.height:.0f}"'
        )
        inner += part.svg.replace("<svg", place, 1)
        y += part.height + 12
    FOLDER.mkdir(exist_ok=True)
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y - 12:.0f}">{inner}</svg>\n'
    (FOLDER / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", text))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ostria-", dir="/tmp") as home, tempfile.TemporaryDirectory() as mine:
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OSTRIA_", "KUBE", "XDG_")) and name != "NO_COLOR"
        } | {"OSTRIA_HOME": home, "HOME": home, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm-256color"}
        folder = pathlib.Path(mine)
        try:
            demo = typed("ostria demo", env, folder)
            address = re.search(r"http://\S+/productpage", demo)
            assert address
            beside("demo", terminal("one command", demo), page(address[0]))
            (folder / "mesh").mkdir()
            (folder / "mesh" / "reviews.yaml").write_text(RULE)
            saved = typed("cat mesh/reviews.yaml", env, folder) + typed("ostria up mesh", env, folder)
            called = typed("ostria call productpage-v1 http://reviews:9080/reviews/0 -n 1000", env, folder)
            beside("route", terminal("a rule is saved", saved), terminal("and calls obey it", called))
        finally:
            subprocess.run([str(BIN / "ostria"), "down", "--purge", "-y"], env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
