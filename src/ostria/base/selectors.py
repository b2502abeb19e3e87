"""Label selectors: as data, as kubectl writes them, and what they match.

See https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/. A selector is a set of requirements
that must all hold; without any it matches everything.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Operator(enum.StrEnum):
    """How a requirement looks at a label. NOT_IN and MISSING hold for objects without the label too."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    MISSING = "DoesNotExist"


class Requirement(NamedTuple):
    """One condition on one label; `values` is sorted, and empty for EXISTS and MISSING."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet this requirement."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) == (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.MISSING:
            return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
        return f"{self.key} {'in' if self.operator is Operator.IN else 'notin'} ({','.join(self.values)})"


class Selector(NamedTuple):
    """Requirements, sorted, so that equal selectors are equal values."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def keys(self) -> tuple[str, ...]:
        """The labels that decide."""
        return tuple(dict.fromkeys(requirement.key for requirement in self.requirements))

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()


def selector(requirements: Iterable[Requirement]) -> Selector:
    """The selector with these requirements."""
    return Selector(tuple(sorted(set(requirements))))


def of_labels(labels: Mapping[str, str]) -> Selector:
    """The selector that asks for exactly these values (matchLabels, a Service's selector)."""
    return selector(Requirement(key, Operator.IN, (value,)) for key, value in labels.items())


def matches_labels(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether all wanted labels are there with their values: the short form for the hot paths."""
    return wanted.items() <= labels.items()


_KEY = re.compile(
    r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII
)
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def is_label_key(text: str) -> bool:
    """Whether this can be a label's key: an optional DNS prefix and a name of at most 63 characters."""
    return _KEY.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """Whether this can be a label's value: at most 63 characters, or nothing."""
    return _VALUE.fullmatch(text) is not None


def of_expressions(
    match_labels: Mapping[str, str], match_expressions: Iterable[tuple[str, str, Iterable[str]]] = ()
) -> Selector:
    """A metav1.LabelSelector, its expressions as (key, operator, values); raises ValueError for one that cannot be."""
    found = list(of_labels(match_labels).requirements)
    found += [_requirement(key, operator, values) for key, operator, values in match_expressions]
    return selector(found)


def _requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    try:
        known = Operator(operator)
    except ValueError:
        raise ValueError(f'"{operator[:40]}" is none of {", ".join(Operator)}') from None
    listed = tuple(sorted(set(values)))
    if (known in (Operator.IN, Operator.NOT_IN)) != bool(listed):
        raise ValueError(f"{known} takes {'values' if not listed else 'no values'}")
    return Requirement(key, known, listed)


_TERM = re.compile(
    r"""\s*(?:
        (?P<absent>!)\s*(?P<missing>[^\s,=!()]+)
      | (?P<key>[^\s,=!()]+)\s*(?:
            (?P<equal>==|=|!=)\s*(?P<value>[^\s,=!()]*)
          | (?P<set>in|notin)\s*\((?P<values>[^()]*)\)
        )?
    )\s*(?:,|\Z)""",
    re.VERBOSE,
)


def parse(text: str) -> Selector:
    """What kubectl takes after -l: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Raises ValueError with the wrong part."""
    found: list[Requirement] = []
    at = 0
    while at < len(text) and text.strip():
        term = _TERM.match(text, at)
        if term is None:
            raise ValueError(
                f'"{text[at:][:60]}" is no label selector: write key=value, key!=value, key in (a,b), key or !key'
            )
        found.append(_term(term))
        at = term.end()
    return selector(found)


def _term(term: re.Match[str]) -> Requirement:
    key = term["missing"] or term["key"]
    values: tuple[str, ...] = ()
    if term["absent"]:
        operator = Operator.MISSING
    elif term["equal"]:
        operator = Operator.NOT_IN if term["equal"] == "!=" else Operator.IN
        values = (term["value"],)
    elif term["set"]:
        operator = Operator.IN if term["set"] == "in" else Operator.NOT_IN
        values = tuple(sorted({value.strip() for value in term["values"].split(",")}))
    else:
        operator = Operator.EXISTS
    if not is_label_key(key):
        raise ValueError(f'"{key[:60]}" cannot be a label\'s key')
    for value in values:
        if not is_label_value(value):
            raise ValueError(f'"{value[:60]}" cannot be a label\'s value')
    return Requirement(key, operator, values)
