"""The documents that `-f FILE`, `-f FOLDER` and `-f -` name; what cannot be read is an error with its place."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ostria.cli.errors import CliError, Exit, bad_input, usage

if TYPE_CHECKING:
    from ostria.base.yaml import Document
    from ostria.sources.api import ApiError
    from ostria.sources.editing import Wish, WishError

# Strict decoding names its fields in words only.
_FIELD = re.compile(r'(?:unknown|duplicate) field "([^"]+)"')


def add_argument(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The flag -f."""
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE|FOLDER|-",
        action="append",
        default=[],
        required=required,
        help="manifests: a file, a folder with all below it, - for stdin; may be given again",
    )


def read(names: Sequence[str]) -> list[Document]:
    """All objects, those of Lists one by one. Raises CliError (exit code 65) at the first that cannot be read."""
    from ostria.base import Problem
    from ostria.base.yaml import read_documents
    from ostria.sources.manifests import items

    found: list[Document] = []
    for source, text in texts(names):
        for document in read_documents(text, source):
            if isinstance(document, Problem):
                raise bad_input(document.message, str(document.origin), document.hint)
            found += items(document)
    if not found:
        raise bad_input("there are no objects in it", ", ".join(names))
    return found


def refused(wish: Wish, error: ApiError) -> CliError:
    """The API's refusal of a document, at the line of the field that it is about."""
    named = [cause.field for cause in error.causes if cause.field] + _FIELD.findall(error.message)
    field = named[0] if named else ""
    where = " ".join(filter(None, (str(wish), field, str(wish.document.origin(field or "metadata.name")))))
    # What is wrong with the object, and not with who applies it or with the API.
    code = Exit.BAD_INPUT if error.status in (400, 422) else Exit.FAILED
    return CliError(error.message or str(error), where, code=code)


def misunderstood(error: WishError) -> CliError:
    """A document that is no object of this API, at its line."""
    return bad_input(str(error), str(error.document.origin(error.field)), error.hint)


def texts(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files that are meant. Raises CliError for what cannot be read."""
    for name in names:
        if name == "-":
            yield "stdin", sys.stdin.buffer.read()
        elif name.startswith(("http://", "https://")):
            raise usage("objects are read from files only", f"curl -fsSL {name} | ostria apply -f -")
        elif Path(name).is_dir():
            yield from _folder(name)
        else:
            try:
                yield name, Path(name).read_bytes()
            except OSError as error:
                raise bad_input(f"it cannot be read: {(error.strerror or str(error)).lower()}", name) from None


def _folder(name: str) -> Iterator[tuple[str, bytes]]:
    from ostria.sources.folder import Files

    files = Files([name])
    texts = files.look()
    for problem in files.problems:
        raise bad_input(problem.message, str(problem.origin), problem.hint)
    yield from ((path, text) for path in sorted(texts) if (text := texts[path]) is not None)
