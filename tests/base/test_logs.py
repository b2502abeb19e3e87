"""Logs: levels by room, JSON lines for machines, text for people."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from ostria.base import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger(logs.ROOT)
    handlers, level, propagate = list(root.handlers), root.level, root.propagate
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    root.propagate = propagate
    logging.getLogger("ostria.xds").setLevel(logging.NOTSET)


def test_levels_by_room() -> None:
    assert logs.parse_levels("info, xds=debug,node=none") == {"": 20, "xds": 10, "node": 51}
    assert logs.parse_levels("") == {}
    for bad in ("loud", "xds=loud", "=debug"):
        with pytest.raises(ValueError, match="is no log level"):
            logs.parse_levels(bad)


def test_json_lines() -> None:
    stream = io.StringIO()
    logs.configure(stream, logs.parse_levels("warn,xds=debug"), as_json=True)
    logging.getLogger("ostria.mesh").info("not shown")
    logging.getLogger("ostria.xds.server").debug("pushed %d", 3, extra={"proxy": "reviews-v1"})
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("ostria.mesh").exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {key: first[key] for key in ("level", "scope", "msg", "proxy")} == {
        "level": "debug",
        "scope": "xds.server",
        "msg": "pushed 3",
        "proxy": "reviews-v1",
    }
    assert "ValueError: boom" in second["error"]


def test_text_and_a_second_configuration_that_replaces_the_first() -> None:
    old, new = io.StringIO(), io.StringIO()
    logs.configure(old, logs.parse_levels("xds=debug"), as_json=True)
    logs.configure(new, {}, as_json=False)
    logging.getLogger("ostria.xds").debug("not shown")
    logging.getLogger("ostria.xds").info("ready", extra={"port": 15010})
    assert old.getvalue() == ""
    assert new.getvalue().split("\t")[1:] == ["info", "xds", "ready port=15010\n"]
