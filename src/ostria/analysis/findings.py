"""Everything that is wrong with a mesh now, in one list: what reading found, and what the subjects here find.

resources.problems, routing, gateways, credentials, tokens, authorization, unsupported (each by key) -> findings,
errors first
"""

from __future__ import annotations

from ostria.analysis.authorization import authorizer_problems
from ostria.analysis.credentials import credential_problems
from ostria.analysis.gateways import binding_problems, gateway_problems, ingress_problems
from ostria.analysis.routing import routing_problems
from ostria.analysis.server_names import server_name_problems
from ostria.analysis.tenancy import tenancy_problems
from ostria.analysis.tokens import token_problems
from ostria.analysis.unsupported import KINDS_WITH_GAPS, unsupported
from ostria.base import Level, Problem
from ostria.engine import Engine, query
from ostria.resources import by_kind, problems
from ostria.resources.store import with_problems

ORDER = {Level.ERROR: 0, Level.WARNING: 1, Level.INFO: 2}

SUBJECTS = (
    ("VirtualService", routing_problems),
    ("VirtualService", binding_problems),
    ("VirtualService", server_name_problems),
    ("VirtualService", tenancy_problems),
    ("ServiceEntry", tenancy_problems),
    ("Gateway", gateway_problems),
    ("Gateway", credential_problems),
    ("Ingress", ingress_problems),
    ("RequestAuthentication", token_problems),
    ("AuthorizationPolicy", authorizer_problems),
    *((kind, unsupported) for kind in KINDS_WITH_GAPS),
)


@query
def findings(db: Engine) -> tuple[Problem, ...]:
    """All problems of the mesh, errors first, then by object and field."""
    # A Secret is told of by the gateways that name it: most of those that hold something else are nobody's.
    read = [key for level in Level for key in with_problems(db, level) if key.kind != "Secret"]
    found = [problem for key in read for problem in problems(db, key) or ()]
    for kind, subject in SUBJECTS:
        found += [problem for key in by_kind(db, kind) for problem in subject(db, key)]
    distinct = dict.fromkeys(found)
    return tuple(sorted(distinct, key=lambda each: (ORDER[each.level], each.object or ("",), each.field, each.code)))
