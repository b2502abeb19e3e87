"""A plan as input for iptables-restore and ip6tables-restore, for clusters whose nodes know nothing else.

Every chain of the plan is a chain of our own, named as Istio's users know them, that the built-in chain jumps to: what
others keep in the same tables stays. Each table is replaced as a whole, and applying twice is applying once. Nothing
here runs a program.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.capture.plan import (
    Drop,
    Family,
    Field,
    Hook,
    Match,
    Plan,
    Redirect,
    Return,
    Rule,
    Table,
    Verdict,
    Zone,
)

# What the built-in chains jump to.
_CHAINS = {Hook.PREROUTING: "ISTIO_INBOUND", Hook.OUTPUT: "ISTIO_OUTPUT"}
_TABLES = {str(table): table for table in Table}
_OPTIONS = {
    Field.PROTOCOL: "-p",
    Field.IN_INTERFACE: "-i",
    Field.OUT_INTERFACE: "-o",
    Field.SOURCE: "-s",
    Field.DESTINATION: "-d",
    Field.SOURCE_PORT: "--sport",
    Field.DESTINATION_PORT: "--dport",
    Field.UID: "--uid-owner",
    Field.GID: "--gid-owner",
    Field.MARK: "--mark",
    Field.STATE: "--ctstate",
}
# A module is named before each of its options: a rule may then test one field several times.
_MODULES = {Field.UID: "owner", Field.GID: "owner", Field.MARK: "mark", Field.STATE: "conntrack"}

Place = tuple[Table, Hook]


def restore(plan: Plan, family: Family, *, installed: frozenset[Place] = frozenset()) -> str:
    """Input for `iptables-restore --noflush` (`ip6tables-restore` for IPv6) that puts the plan in place of any other.

    `installed` are the places whose built-in chain jumps to ours already (see `find_installed`).
    """
    chains = {(chain.table, chain.hook): chain for chain in plan.chains if chain.family is family}
    lines: list[str] = []
    for table in Table:
        # A chain that an older plan filled and this one does not know is emptied.
        hooks = [hook for hook in Hook if (table, hook) in chains or (table, hook) in installed]
        if not hooks:
            continue
        lines.append(f"*{table}")
        # To declare a chain is to empty it, if it is there.
        lines.extend(f":{_CHAINS[hook]} - [0:0]" for hook in hooks)
        for hook in hooks:
            if chain := chains.get((table, hook)):
                lines.extend(f"-A {_CHAINS[hook]} {_rule(rule)}" for rule in chain.rules)
            if (table, hook) not in installed:
                lines.append(f"-A {_jump(hook)}")
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def remove(installed: frozenset[Place]) -> str:
    """Input for `iptables-restore --noflush` that takes our chains away where they are installed."""
    lines: list[str] = []
    for table in Table:
        hooks = [hook for hook in Hook if (table, hook) in installed]
        if not hooks:
            continue
        lines.append(f"*{table}")
        lines.extend(f"-D {_jump(hook)}" for hook in hooks)
        lines.extend(line for hook in hooks for line in (f"-F {_CHAINS[hook]}", f"-X {_CHAINS[hook]}"))
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def find_installed(saved: str) -> frozenset[Place]:
    """The places where the built-in chain jumps to ours, from the output of `iptables-save`."""
    jumps = {f"-A {_jump(hook)}": hook for hook in Hook}
    found: set[Place] = set()
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif (hook := jumps.get(line.strip())) is not None and table in _TABLES:
            found.add((_TABLES[table], hook))
    return frozenset(found)


def _jump(hook: Hook) -> str:
    return f"{hook.upper()} -j {_CHAINS[hook]}"


def _rule(rule: Rule) -> str:
    return " ".join((*_matches(rule.matches), "-j", _verdict(rule.verdict)))


def _matches(matches: tuple[Match, ...]) -> Iterator[str]:
    ports = [match for match in matches if match.field is Field.DESTINATION_PORT]
    if len(ports) > 1:
        # A protocol's own option is taken once only; none of several ports is one list.
        assert all(match.negated for match in ports)
        numbers = ",".join(str(match.value) for match in ports)
        several = f"-m multiport ! --dports {numbers}"
        matches = tuple(match for match in matches if match not in ports[1:])
    for match in matches:
        if match in ports and len(ports) > 1:
            yield several
            continue
        if module := _MODULES.get(match.field):
            yield f"-m {module}"
        if match.negated:
            yield "!"
        value = str(match.value).upper() if match.field is Field.STATE else str(match.value)
        yield f"{_OPTIONS[match.field]} {value}"


def _verdict(verdict: Verdict) -> str:
    match verdict:
        case Return():
            return "RETURN"
        case Drop():
            return "DROP"
        case Redirect(port):
            return f"REDIRECT --to-ports {port}"
        case Zone(number):
            return f"CT --zone {number}"
