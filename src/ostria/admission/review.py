"""Questions and answers in Kubernetes' words: an AdmissionReview (admission.k8s.io/v1) in, one out.

See https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/. What comes in is bounded
before anything is done with it. A question that is none raises `Refused`; an object that is bad is an answer.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from ostria.base import Level, ObjectKey, Problem
from ostria.injection import Settings, inject, json_patch
from ostria.resources import kind_of, parse

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
MAX_WARNING = 256
"""What an API server passes on of one warning."""
MAX_WARNINGS = 16


class Limits(NamedTuple):
    """What a question may cost: bytes, levels of nesting, values, and seconds until it has come."""

    size: int = 8 * 1024 * 1024
    depth: int = 100
    values: int = 500_000
    seconds: float = 10.0


LIMITS = Limits()


class Refused(Exception):
    """A body that is no question; the text says why."""


class _Kind(msgspec.Struct, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    kind: _Kind = _Kind()
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    operation: str = ""
    object: Any = None
    old_object: Any = None


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _Request


class Answer(NamedTuple):
    """One verdict: why the object is refused ("" if it is not), what to change of it, and what to tell its author."""

    refusal: str = ""
    causes: tuple[Problem, ...] = ()
    patch: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


def mutate(body: bytes, settings: Settings, limits: Limits = LIMITS) -> bytes:
    """The answer about a pod that is being made: the patch that gives it a proxy, if it is to have one."""
    request = _read(body, limits)
    return _write(request.uid, _mutate(request, settings))


def validate(body: bytes, limits: Limits = LIMITS) -> bytes:
    """The answer about one of the mesh's objects: refused with every error by field, or taken with warnings."""
    request = _read(body, limits)
    return _write(request.uid, _validate(request))


def settings_at(path: str, settings: Settings) -> Settings:
    """The settings for pods of the cluster and network that a webhook's path names: /inject/cluster/C/net/N.

    See https://istio.io/latest/docs/setup/install/multicluster/, "injectionURL"; other names are passed over.
    """
    parts = [unquote(part) for part in path.split("/") if part][1:]
    named = dict(zip(parts[::2], parts[1::2], strict=False))
    return msgspec.structs.replace(
        settings,
        cluster=named.get("cluster") or settings.cluster,
        network=named.get("net") or settings.network,
    )


def _mutate(request: _Request, settings: Settings) -> Answer:
    pod = request.object
    is_pod = (request.kind.group, request.kind.kind) == ("", "Pod")
    if not is_pod or request.operation != "CREATE" or request.sub_resource or not isinstance(pod, Mapping):
        return Answer()
    injection = inject(pod, request.namespace, settings)
    if injection.refused:
        return Answer("the pod cannot be given its proxy", injection.problems)
    warnings = tuple(_sentence(problem) for problem in injection.problems)
    if injection.pod is None:
        told = (f"the pod asks for a proxy and gets none: {injection.reason}",) if injection.contrary else ()
        return Answer(warnings=(*warnings, *told))
    return Answer(patch=tuple(json_patch(pod, injection.pod)), warnings=warnings)


def _validate(request: _Request) -> Answer:
    value = request.object
    if request.operation not in ("CREATE", "UPDATE") or request.sub_resource or not isinstance(value, Mapping):
        return Answer()
    api_version, name = value.get("apiVersion"), value.get("kind")
    kind = kind_of(api_version, name) if isinstance(api_version, str) and isinstance(name, str) else None
    if kind is None or not (kind.ours or kind.validate):
        return Answer()
    key = ObjectKey("", kind.name, request.namespace if kind.namespaced else "", request.name)
    _, problems = parse(kind, value, key)
    errors = tuple(problem for problem in problems if problem.level is Level.ERROR)
    warnings = tuple(_sentence(problem) for problem in problems if problem.level is Level.WARNING)
    if errors and _means_the_same(request):
        # What was taken before and only changes in its labels of life (an annotation, a finalizer) is not held up.
        return Answer(warnings=(*warnings, *map(_sentence, errors)))
    return Answer("the configuration is invalid" if errors else "", errors, warnings=warnings)


def _means_the_same(request: _Request) -> bool:
    """Whether an update leaves alone what validation judges, or the object is on its way out."""
    new, old = request.object, request.old_object
    if request.operation != "UPDATE" or not isinstance(old, Mapping):
        return False
    meta = new.get("metadata")
    going = isinstance(meta, Mapping) and bool(meta.get("deletionTimestamp"))
    judged = ("spec", "data", "apiVersion")
    return going or all(new.get(field) == old.get(field) for field in judged)


def _sentence(problem: Problem) -> str:
    text = f"{problem.field}: {problem.message}" if problem.field else problem.message
    return f"{text} (try: {problem.hint})" if problem.hint else text


def _read(body: bytes, limits: Limits) -> _Request:
    if len(body) > limits.size:
        raise Refused(f"the body is larger than {limits.size} bytes")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("the body is not JSON, or nests too deep") from None
    _bound(value, limits)
    try:
        review = msgspec.convert(value, _Review)
    except msgspec.ValidationError as error:
        raise Refused(f"the body is no {KIND}: {error}") from None
    if (review.api_version, review.kind) != (API_VERSION, KIND):
        raise Refused(f"expected {API_VERSION} {KIND}")
    return review.request


def _bound(value: Any, limits: Limits) -> None:
    """Refuse what is nested too deep or holds too much, so that what follows may go through it as it is."""
    level: list[Any] = [value]
    depth = count = 0
    while level:
        depth += 1
        count += len(level)
        if depth > limits.depth:
            raise Refused(f"the body nests deeper than {limits.depth} levels")
        if count > limits.values:
            raise Refused(f"the body holds more than {limits.values} values")
        level = [item for each in level if isinstance(each, dict | list) for item in _inside(each)]


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _write(uid: str, answer: Answer) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": not answer.refusal}
    if answer.refusal:
        told = "; ".join(map(_sentence, answer.causes))
        response["status"] = {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": f"{answer.refusal}: {told}" if told else answer.refusal,
            "details": {
                "causes": [
                    {"reason": "FieldValueInvalid", "field": each.field, "message": _sentence(each._replace(field=""))}
                    for each in answer.causes
                ]
            },
        }
    elif answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(answer.patch)).decode()
    if answer.warnings:
        response["warnings"] = [_shortened(warning) for warning in answer.warnings[:MAX_WARNINGS]]
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


def _shortened(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_WARNING else f"{plain[: MAX_WARNING - 1]}…"
