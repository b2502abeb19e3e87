"""Policies that ask somebody who cannot be asked: what they match is denied."""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.authorization import policies_in, policy
from ostria.mesh.authorizers import authorizer
from ostria.mesh.model import AccessPolicy, Action
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.authorization_policy import AuthorizationPolicy

_FIELD = "spec.provider.name"


@query
def authorizer_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What is wrong with whom one CUSTOM policy asks."""
    found = policy(db, key)
    if found is None or found.action is not Action.CUSTOM or found.on_trial:
        return ()
    fault = authorizer(db, found.provider, key.namespace).fault
    if fault:
        message = f"{fault}: what the policy matches is denied"
        hint = "define it in meshConfig.extensionProviders, with a service that the policy's namespace knows"
        return (Problem("no-authorizer", Level.ERROR, message, key, _FIELD, hint=hint),)
    others = sorted({other.provider for other in _beside(db, key) if other.provider != found.provider})
    if not others:
        return ()
    message = f'a workload can ask one provider only, and another policy asks "{others[0]}": what they match is denied'
    hint = "have both ask one, or select different workloads"
    return (Problem("several-authorizers", Level.ERROR, message, key, _FIELD, hint=hint),)


def _beside(db: Engine, key: ObjectKey) -> Iterator[AccessPolicy]:
    """The CUSTOM policies that are certainly for a workload that this one is for: one's labels hold the other's."""
    mine = _labels(db, key)
    for place in dict.fromkeys((key.namespace, settings(db).root_namespace)):
        for other in policies_in(db, place):
            found = policy(db, other)
            if found is None or found.action is not Action.CUSTOM or found.on_trial:
                continue
            theirs = _labels(db, other)
            if mine is not None and theirs is not None and (mine <= theirs or theirs <= mine):
                yield found


def _labels(db: Engine, key: ObjectKey) -> frozenset[tuple[str, str]] | None:
    """The labels by which a policy selects workloads; None where it names what they stand behind."""
    value = objects(db, key)
    if not isinstance(value, AuthorizationPolicy) or value.spec.target_ref or value.spec.target_refs:
        return None
    return frozenset(value.spec.selector.match_labels.items()) if value.spec.selector else frozenset()
