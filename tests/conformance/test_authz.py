"""AuthorizationPolicy to Envoy's filters: the same filters in the same order, and the same verdicts.

The trees are compared twice. As they are, up to how alternatives are nested and ordered; and by what they say of calls
that are made of the very words in them, by the evaluator that `tests/envoy/test_rbac_envoy.py` compares with Envoy.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import yaml
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf import json_format

from doubles import conformance
from doubles.access_calls import calls
from doubles.meshes import Mesh
from ostria.analysis.simulation.rbac import Guard, Rule, Term, TermKind, matched
from ostria.analysis.simulation.rbac_wire import guards
from ostria.envoy.access import connection_access, request_access
from ostria.mesh.authorization import authorization_of
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: "{name}", namespace: "{namespace}"}}
spec:
  hosts: ["{hostname}"]
  ports: [{{name: grpc, number: 9000, protocol: GRPC}}]
  resolution: DNS
"""
META = {"namespace": "foo", "labels": {"app": "httpbin", "version": "v1"}}
SERVICES = [{"hostname": "my-custom-ext-authz.foo.svc.cluster.local", "namespace": "foo"}]


def made(case: dict[str, Any]) -> list[Any]:
    """The filters that we make of a case's policies: of CUSTOM ones, or of all others."""
    config: dict[str, Any] = dict(case["meshConfig"] or {})
    if case["trustDomain"]:
        config |= {"trustDomain": case["trustDomain"], "trustDomainAliases": case["trustDomainAliases"]}
    mesh_config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": json.dumps(config)},
    }
    services = (SERVICE.format(name=f"s{at}", **each) for at, each in enumerate(SERVICES))
    mesh = Mesh(json.dumps(mesh_config), *services, conformance.text("authz", case["input"]), settings=Settings())
    labels: Any = META["labels"]
    client = ClientTraits(namespace=str(META["namespace"]), labels=tuple(sorted(labels.items())))
    found = authorization_of(mesh.db, client)
    if case["forTCP"]:
        only = found._replace(custom=(), authorizers=())
        if case["customBuilder"]:
            only = found._replace(audit=(), deny=(), allow=())
        return list(connection_access(only))
    made = request_access(found)
    return list(made.first if case["customBuilder"] else made.rest)


def expected(case: dict[str, Any]) -> list[Any]:
    """The filters that are wanted."""
    shape: Any = Filter if case["forTCP"] else HttpFilter
    documents = (yaml.safe_load(conformance.text("authz", path)) for path in case["expected"])
    return [json_format.ParseDict(document, shape()) for document in documents]


@pytest.mark.parametrize("case", conformance.cases("authz"))
def test_authz(case: dict[str, Any]) -> None:
    ours, wanted = made(case), expected(case)
    assert [each.name for each in ours] == [each.name for each in wanted]
    for mine, theirs in zip(ours, wanted, strict=True):
        assert comparable(mine) == comparable(theirs)
    agree(guards(ours), guards(wanted), case["name"])


@pytest.mark.parametrize("case", conformance.cases("authz"))
def test_a_falsified_expectation_fails(case: dict[str, Any]) -> None:
    ours = made(case)
    falsified = [wrong for each in expected(case) for wrong in falsifications(each)]
    caught = [wrong for wrong in falsified if all(comparable(wrong) != comparable(mine) for mine in ours)]
    assert len(falsified) >= len(case["expected"])
    assert len(caught) == len(falsified)


def agree(ours: tuple[Guard, ...], wanted: tuple[Guard, ...], seed: str) -> None:
    """Both say the same of every call that is made of their words."""
    assert len(ours) == len(wanted)
    for mine, theirs in zip(ours, wanted, strict=True):
        assert (mine.enforced, mine.action, mine.asks) == (theirs.enforced, theirs.action, theirs.asks)
        drawn = calls((*mine.rules, *mine.shadow, *theirs.rules, *theirs.shadow), random.Random(seed), 300)
        for facts in drawn:
            assert matched(mine.rules, facts) == matched(theirs.rules, facts), facts
            assert matched(mine.shadow, facts) == matched(theirs.shadow, facts), facts


# --- the same up to nesting and order -----------------------------------------------------------------------------


def comparable(filter_: Any) -> Any:
    """A filter, its RBAC trees without order and without brackets that bracket nothing."""
    found = guards([filter_])
    if found:
        (guard,) = found
        return guard._replace(rules=plain(guard.rules), shadow=plain(guard.shadow))
    return json_format.MessageToDict(filter_)


def plain(rules: Iterable[Rule]) -> Any:
    return tuple(
        Rule(rule.name, _set(map(_plain, rule.permissions)), _set(map(_plain, rule.principals))) for rule in rules
    )


def _plain(term: Term) -> Term:
    parts = [_plain(each) for each in term.terms]
    if term.kind in (TermKind.ALL, TermKind.SOME):
        flat = [inner for each in parts for inner in (each.terms if each.kind is term.kind else (each,))]
        return flat[0] if len(flat) == 1 else term._replace(terms=_set(flat))
    return term._replace(terms=tuple(parts))


def _set(terms: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(sorted(dict.fromkeys(terms), key=repr))


# --- falsified expectations ---------------------------------------------------------------------------------------


def falsifications(filter_: Any) -> Iterator[Any]:
    """Wrong versions of an expectation: each text, number and action in it changed, one at a time."""
    document = json_format.MessageToDict(filter_)
    for path in _leaves(document, ()):
        if path[-1] in ("@type", "name", "shadowRulesStatPrefix", "statPrefix", "any"):
            continue
        changed = json.loads(json.dumps(document))
        place = changed
        for key in path[:-1]:
            place = place[key]
        value = place[path[-1]]
        place[path[-1]] = _wrong(str(path[-1]), value)
        try:
            yield json_format.ParseDict(changed, type(filter_)())
        except json_format.ParseError:
            continue
    policies = document["typedConfig"].get("rules", {}).get("policies", {})
    for name in policies:
        changed = json.loads(json.dumps(document))
        del changed["typedConfig"]["rules"]["policies"][name]
        yield json_format.ParseDict(changed, type(filter_)())
    if "rules" in document["typedConfig"]:
        changed = json.loads(json.dumps(document))
        rules = changed["typedConfig"]["rules"]
        rules["action"] = "ALLOW" if rules.get("action", "ALLOW") != "ALLOW" else "DENY"
        yield json_format.ParseDict(changed, type(filter_)())


def _wrong(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if re.fullmatch(r"[\d.]+", value):
        return re.sub(r"\d+$", lambda found: str((int(found[0]) + 1) % 256), value)
    return "DENY" if name == "action" and value != "DENY" else f"{value}x"


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, (*path, at))
    else:
        yield path
