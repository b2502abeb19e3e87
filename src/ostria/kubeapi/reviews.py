"""Questions that are asked as objects and answered at once: who am I, whose token is this, may they. Pure.

    (kind, the object sent, who asks) -> the object with its status

See https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/ and .../authorization-resources/.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ostria.kubeapi import causes
from ostria.kubeapi.authorization import Authorizer
from ostria.kubeapi.errors import Cause, invalid
from ostria.kubeapi.fields import mapping
from ostria.kubeapi.kinds import AUTHENTICATION, AUTHORIZATION
from ostria.kubeapi.requests import Attributes, Document, User
from ostria.kubeapi.tokens import Invalid, Issuer


class Reviews:
    """Answers every kind of review. `now` gives the time (UTC)."""

    def __init__(self, authorizer: Authorizer, issuer: Issuer, now: Callable[[], datetime]) -> None:
        self._authorizer = authorizer
        self._issuer = issuer
        self._now = now
        self._kinds: dict[tuple[str, str], Callable[[Document, User, str], tuple[Document, Document]]] = {
            (AUTHENTICATION, "SelfSubjectReview"): self._who,
            (AUTHENTICATION, "TokenReview"): self._token,
            (AUTHORIZATION, "LocalSubjectAccessReview"): self._local,
            (AUTHORIZATION, "SelfSubjectAccessReview"): self._self,
            (AUTHORIZATION, "SelfSubjectRulesReview"): self._rules,
            (AUTHORIZATION, "SubjectAccessReview"): self._subject,
        }

    def answers(self, group: str, kind: str) -> bool:
        """Whether this is a kind of review."""
        return (group, kind) in self._kinds

    def answer(self, group: str, kind: str, sent: Document, user: User, namespace: str = "") -> Document:
        """The review with its status; nothing is stored. Raises StatusError (422)."""
        spec, status = self._kinds[group, kind](mapping(sent, "spec"), user, namespace)
        metadata = {"creationTimestamp": None, **mapping(sent, "metadata")}
        found = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": metadata, "spec": spec, "status": status}
        if kind == "SelfSubjectReview":
            del found["spec"]
        return found

    def _who(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        return spec, {"userInfo": user_info(user)}

    def _token(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        token, audiences = spec.get("token") or "", spec.get("audiences") or [self._issuer.issuer]
        if not token:
            raise invalid("TokenReview", "", [causes.required("spec.token")], AUTHENTICATION)
        try:
            found = self._issuer.review(token, audiences, self._now())
        except Invalid as error:
            return spec, {"authenticated": False, "user": {}, "error": str(error)}
        return spec, {"authenticated": True, "user": user_info(found.user), "audiences": list(found.audiences)}

    def _self(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        return spec, self._decided(user, spec, "SelfSubjectAccessReview")

    def _subject(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        if not spec.get("user") and not spec.get("groups"):
            told = "at least one of user or group must be specified"
            raise invalid("SubjectAccessReview", "", [causes.wrong("spec.user", "", told)], AUTHORIZATION)
        return spec, self._decided(_subject_of(spec), spec, "SubjectAccessReview")

    def _local(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        about = mapping(spec, "resourceAttributes")
        if about.get("namespace", "") != namespace:
            told = "must match metadata.namespace"
            wrong = [causes.wrong("spec.resourceAttributes.namespace", about.get("namespace"), told)]
            raise invalid("LocalSubjectAccessReview", "", wrong, AUTHORIZATION)
        return self._subject(spec, user, namespace)

    def _rules(self, spec: Document, user: User, namespace: str) -> tuple[Document, Document]:
        where = spec.get("namespace") or ""
        if not where:
            raise invalid("SelfSubjectRulesReview", "", [causes.required("spec.namespace")], AUTHORIZATION)
        resources: list[Document] = []
        others: list[Document] = []
        for rule, _ in self._authorizer.granted(user, where):
            if rule.get("nonResourceURLs"):
                others.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
            else:
                parts = ("verbs", "apiGroups", "resources", "resourceNames")
                resources.append({part: rule[part] for part in parts if rule.get(part)})
        return spec, {"resourceRules": resources, "nonResourceRules": others, "incomplete": False}

    def _decided(self, user: User, spec: Document, kind: str) -> Document:
        about, path = mapping(spec, "resourceAttributes"), mapping(spec, "nonResourceAttributes")
        if bool(about) == bool(path):
            told = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise invalid(kind, "", [Cause("spec", f"Invalid value: {told}")], AUTHORIZATION)
        decision = self._authorizer.decide(user, _attributes(about) if about else _path(path))
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}


def user_info(user: User) -> Document:
    """A user as objects have them."""
    found: Document = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra}
    return found


def _subject_of(spec: Document) -> User:
    extra: dict[str, Any] = mapping(spec, "extra")
    pairs = tuple(sorted((key.lower(), tuple(values)) for key, values in extra.items()))
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", pairs)


def _attributes(about: Document) -> Attributes:
    words = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
    return Attributes(*(str(about.get(word) or "") for word in words))


def _path(about: Document) -> Attributes:
    return Attributes(str(about.get("verb") or ""), path=str(about.get("path") or ""))
