"""Stories of kubectl, told in YAML: what a person types, and what it must come to.

A step runs one command and says what it must come to: `prints` (all of stdout; `{age}` is a span of time, `{any}` a
word, and two spaces stand for those between columns), `contains` (parts of stdout), `fails` (the exit code is not
0, and a part of stderr), `says` (a part of stderr although it goes well). `input` is a manifest, `types` what is typed
into a program. `NS` is the story's namespace.
"""

from __future__ import annotations

import pathlib
import re
import shlex
from typing import Any

import yaml

from doubles.api_process import Done


def stories(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """The steps of every story in a folder's files, by the file and the story."""
    return {
        f"{path.stem}: {story['story']}": story["steps"]
        for path in sorted(folder.glob("*.yaml"))
        for story in yaml.safe_load(path.read_text())
    }


def command(step: dict[str, Any], namespace: str) -> tuple[list[str], str]:
    """The arguments of a step's command, and what stands on its standard input."""
    run, text, typed = (meant(step.get(name, ""), namespace) for name in ("run", "input", "types"))
    # Older versions take what begins with a brace for JSON, which YAML in one line is not.
    return shlex.split(run), typed or f"---\n{text}"


def check(step: dict[str, Any], answer: Done, namespace: str) -> None:
    told = f"kubectl {step['run']}\n{answer.out}{answer.err}"
    step = {name: meant(value, namespace) for name, value in step.items()}
    if "fails" in step:
        assert answer.code != 0, told
        assert step["fails"] in answer.err, told
    else:
        assert answer.code == 0, told
    assert step.get("says", "") in answer.err, told
    if "prints" in step:
        expected = re.escape(squeezed(step["prints"]))
        expected = expected.replace(r"\{age\}", r"(\d+[smhdy])+").replace(r"\{any\}", r"\S+")
        assert re.fullmatch(expected, squeezed(answer.out)), f"{told}\nbut not:\n{step['prints']}"
    listed = step.get("contains", [])
    for part in [listed] if isinstance(listed, str) else listed:
        assert squeezed(part) in squeezed(answer.out), f"{told}\nwithout: {part}"


def meant(value: Any, namespace: str) -> Any:
    """What a story says, of its own namespace."""
    if isinstance(value, list):
        return [meant(each, namespace) for each in value]
    return re.sub(r"\bNS\b", namespace, value)


def squeezed(text: str) -> str:
    """Text whose columns stand two spaces apart."""
    return "\n".join(re.sub(r" {2,}", "  ", line).strip() for line in text.strip().split("\n"))
