"""One resource a case: is it taken, and is it warned of, as Istio's admission webhook does?"""

from __future__ import annotations

from typing import Any

import pytest

from doubles import conformance
from ostria.base import Level
from ostria.resources import KINDS, read_text


@pytest.mark.parametrize("case", conformance.cases("validation"))
def test_validation(case: dict[str, Any]) -> None:
    if case["kind"] not in KINDS:
        pytest.skip("kind not built yet")
    reading = read_text(conformance.text("validation", case["input"]), case["input"])
    (change,) = reading.changes
    assert not reading.problems
    assert (change.object is not None) == case["valid"], change.problems
    if case.get("warning") is not None:
        warned = any(problem.level is Level.WARNING for problem in change.problems)
        assert warned == case["warning"], change.problems
