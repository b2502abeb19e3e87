"""Which command an image stands for: images are not run, they are names that a map gives a program of this machine.

    maps (files, the later wins) + container -> Command, or the words that tell what to write and where

A map is YAML:

    images:
      "docker.io/istio/examples-bookinfo-reviews-v2:*":
        command: ["${python}", "-m", "ostria.samples", "reviews", "v2"]
        env: {WHERE: here}
        workingDir: /tmp

A file may hold several documents. Keys are globs over the image as written; a key without a tag or digest matches any.
`${python}` and `${ostria}` are the interpreter's path and our own command.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ostria.base import Level, Problem
from ostria.base.yaml import Document, read_documents
from ostria.node.pods import Container


class Entry(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What one glob stands for. `args` are the image's own, which a container's `args` replace."""

    command: list[str] = []
    args: list[str] = []
    env: dict[str, str] = {}
    working_dir: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: dict[str, Entry] = {}


class Images(NamedTuple):
    """All entries of all maps, the first read first; `paths` are the files, the last of which is where to add."""

    entries: tuple[tuple[str, Entry], ...] = ()
    paths: tuple[str, ...] = ()

    def find(self, image: str) -> Entry | None:
        """The last entry that matches."""
        names = {image, _without_tag(image)}
        for glob, entry in reversed(self.entries):
            if any(fnmatch.fnmatchcase(name, glob) for name in names):
                return entry
        return None


class Command(NamedTuple):
    """What is started, before references to variables are replaced."""

    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    working_dir: str


class NotMapped(LookupError):
    """Neither the container nor a map has a command; the message holds the lines to add and the file."""


def read_images(texts: Sequence[tuple[str, str]]) -> tuple[Images, tuple[Problem, ...]]:
    """The maps of (path, text), and what is wrong with them; a bad file leaves the others standing."""
    entries: list[tuple[str, Entry]] = []
    problems: list[Problem] = []
    for path, text in texts:
        for document in read_documents(text, path):
            if isinstance(document, Problem):
                problems.append(document)
                continue
            try:
                entries += msgspec.convert(document.value, _File).images.items()
            except msgspec.ValidationError as error:
                problems.append(_refused(error, document))
    return Images(tuple(entries), tuple(path for path, _ in texts)), tuple(problems)


def command_of(container: Container, images: Images, variables: Mapping[str, str]) -> Command:
    """The container's command, else the map's; `args` follow as Docker's do. Raises NotMapped."""
    entry = images.find(container.image)
    if container.command:
        command, args = container.command, container.args
    elif entry is not None and entry.command:
        command, args = entry.command, container.args or entry.args
    else:
        raise NotMapped(_advice(container.image, images))
    entry = entry or Entry()
    return Command(
        tuple(_fill(part, variables) for part in command) if command is entry.command else tuple(command),
        tuple(args),
        {name: _fill(value, variables) for name, value in entry.env.items()},
        container.working_dir or _fill(entry.working_dir, variables) or "/",
    )


def _advice(image: str, images: Images) -> str:
    where = images.paths[-1] if images.paths else "an image map"
    name = _without_tag(image)
    return (
        f'nothing says which program the image "{image}" stands for: images are not run here. Give the container a '
        f'command, or add to {where}:\n---\nimages:\n  "{name}":\n    command: ["PROGRAM", "ARGUMENT"]'
    )


def _refused(error: msgspec.ValidationError, document: Document) -> Problem:
    return Problem("image-map", Level.ERROR, str(error), origin=document.origin(), hint="see `images:` in the docs")


def _fill(text: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def _without_tag(image: str) -> str:
    image = image.partition("@")[0]
    head, slash, tail = image.rpartition("/")
    return head + slash + tail.partition(":")[0]
