"""Who a container's program is and what it may: the two security contexts read together, against what can be mapped.

As root every id is itself. An ordinary user has one id to give, so the program appears under whichever it asks for and
its files with it. What cannot be honoured is returned as words for one event; nothing is silently dropped.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.node.pods import Container, Pod

CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""By number, as in linux/capability.h."""

DEFAULT = frozenset(
    [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
"""What container runtimes leave to a program that asks for nothing."""


class Identity(NamedTuple):
    """A program's ids and bounds.

    `nested` is false for a program that was given power over the pod's network: it then stands in the namespace that
    owns it. `identity` says that ids mean themselves (root), not that one id is mapped (ordinary user).
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    nested: bool
    identity: bool
    dropped: tuple[int, ...]
    no_new_privileges: bool
    read_only: bool
    privileged: bool = False


class Decision(NamedTuple):
    """`refused` says why the container must not start, "" if it may; `unhonoured` is for the pod's one event."""

    identity: Identity
    refused: str = ""
    unhonoured: tuple[str, ...] = ()


def decide(pod: Pod, container: Container, *, rootless: bool) -> Decision:
    """Who the program is."""
    ours, theirs = container.security_context, pod.spec.security_context
    uid = next((value for value in (ours.run_as_user, theirs.run_as_user) if value is not None), 0)
    gid = next((value for value in (ours.run_as_group, theirs.run_as_group) if value is not None), 0)
    non_root = theirs.run_as_non_root if ours.run_as_non_root is None else ours.run_as_non_root
    kept = _kept(container)
    nested = "NET_ADMIN" not in kept and not ours.privileged
    if not nested and not ours.privileged:
        # In the namespace of this machine's root it would make any device, as no cgroup forbids it.
        kept -= {"MKNOD"}
    unhonoured = list(_ignored(pod, container))
    groups = tuple(sorted({*theirs.supplemental_groups, *([] if theirs.fs_group is None else [theirs.fs_group])}))
    if rootless:
        if groups and set(groups) != {gid}:
            unhonoured.append(f"groups {', '.join(map(str, groups))} (an ordinary user can give one group)")
        if not nested and uid:
            unhonoured.append(f"runAsUser {uid} with NET_ADMIN (an ordinary user can give one of the two)")
    identity = Identity(
        uid,
        gid,
        () if rootless else groups,
        nested,
        not rootless,
        tuple(number for number, name in enumerate(CAPABILITIES) if name not in kept),
        ours.allow_privilege_escalation is False,
        ours.read_only_root_filesystem,
        ours.privileged,
    )
    refused = ""
    if non_root and uid == 0:
        refused = f'container "{container.name}" has runAsNonRoot and would run as user 0: set runAsUser'
    return Decision(identity, refused, tuple(unhonoured))


def _kept(container: Container) -> frozenset[str]:
    context = container.security_context
    if context.privileged:
        return frozenset(CAPABILITIES)
    add = {name.upper().removeprefix("CAP_") for name in context.capabilities.add}
    drop = {name.upper().removeprefix("CAP_") for name in context.capabilities.drop}
    kept = frozenset() if "ALL" in drop else DEFAULT - drop
    return frozenset(CAPABILITIES) if "ALL" in add else kept | add


def _ignored(pod: Pod, container: Container) -> list[str]:
    ours, theirs = container.security_context, pod.spec.security_context
    found = []
    for name, values in (
        ("seccompProfile", (ours.seccomp_profile, theirs.seccomp_profile)),
        ("seLinuxOptions", (ours.se_linux_options, theirs.se_linux_options)),
        ("appArmorProfile", (ours.app_armor_profile, theirs.app_armor_profile)),
    ):
        if any(value is not None and value != {"type": "RuntimeDefault"} for value in values):
            found.append(name)
    spec = pod.spec
    for words, is_asked in (
        ("resources.limits (no cgroups)", container.resources.limits),
        ("hostNetwork (the pod has a network of its own)", spec.host_network),
        ("hostPID, hostIPC (the pod has namespaces of its own)", spec.host_pid or spec.host_ipc),
        ("hostPort (use a NodePort)", any(port.host_port for port in container.ports)),
    ):
        found += [words] if is_asked else []
    return found
