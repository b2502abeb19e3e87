"""One resource a case: is it taken by the schema?

Our schemas hold no CEL rules. What such a rule would refuse, the webhook's validation must refuse instead; so a case
that is valid must pass the schema alone, and a case that is not must fail the schema or the validation.
"""

from __future__ import annotations

from typing import Any

import pytest

from doubles import conformance
from ostria.base import Level, Problem
from ostria.base.yaml import Document, read_documents
from ostria.resources import KINDS, read
from ostria.resources.fields import check
from ostria.resources.parse import wire_shape

NOT_OURS = {"serviceentry-valid/full": "libyaml reads no unquoted IPv6 address that ends in :: within brackets"}

# What only semantic validation refuses in Istio: its schema does not look at it.
AFTER_THE_SCHEMA = ("partial wildcard",)


@pytest.mark.parametrize("case", conformance.cases("crd-validation"))
def test_crd_validation(case: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if case["kind"] not in KINDS:
        pytest.skip("kind not built yet")
    if case["name"] in NOT_OURS:
        request.applymarker(pytest.mark.xfail(reason=NOT_OURS[case["name"]], strict=True))
    (document,) = read_documents(conformance.text("crd-validation", case["input"]), case["input"])
    assert isinstance(document, Document), str(document) if isinstance(document, Problem) else document
    _, faults = check(wire_shape(KINDS[case["kind"]]), document.value)
    refused = [each for each in read(document).changes[0].problems if each.level is Level.ERROR]
    refused = [each for each in refused if not any(text in each.message for text in AFTER_THE_SCHEMA)]
    assert (not faults and not refused) is case["valid"], refused
