"""Take a command line of istioctl's: ostria istioctl install --set profile=demo -y

`ostria shell` puts an `istioctl` on PATH that is this. What a later version brings says so, with exit code 69.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ostria.cli import main
from ostria.cli.errors import Exit, unavailable, usage
from ostria.cli.main import Context

HERE: Mapping[str, str] = {
    "install": "install",
    "apply": "install",
    "uninstall": "uninstall",
    "verify-install": "verify-install",
    "manifest": "manifest",
    "proxy-status": "proxy-status",
    "ps": "proxy-status",
    "proxy-config": "proxy-config",
    "pc": "proxy-config",
    "version": "version",
    "completion": "completion",
}
"""istioctl's verbs, and ours."""

LATER: Mapping[str, str] = {
    "admin": "",
    "analyze": "`ostria status` lists every problem that the control plane knows",
    "authz": "",
    "bug-report": "",
    "create-remote-secret": "",
    "dashboard": "`ostria status` and `ostria proxy-config` print what they know",
    "experimental": "",
    "kube-inject": "label the namespace istio-injection=enabled, and pods get their proxies",
    "operator": "",
    "profile": "",
    "remote-clusters": "",
    "tag": "",
    "upgrade": "`ostria install` again changes what runs",
    "validate": "`ostria apply --dry-run` checks files against the API",
    "waypoint": "",
    "x": "",
    "ztunnel-config": "",
}
"""istioctl's verbs that are not there yet, and what serves meanwhile ("" if nothing does)."""

# istioctl's flags before the verb that take a value; those that mean nothing here are dropped.
_VALUED = {"-c", "--kubeconfig", "--context", "-n", "--namespace", "-i", "--istioNamespace", "--mesh"}
_DROPPED = {"-i", "--istioNamespace"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags: all are istioctl's."""
    parser.add_argument("words", metavar="VERB ...", nargs=argparse.REMAINDER, help="as one would type after istioctl")


def translate(words: Sequence[str], leading: Sequence[str], context: Context) -> int:
    """Run a command line of istioctl's; `leading` are flags that chose the mesh before `istioctl`."""
    flags, rest = _split(words)
    if not rest or rest[0] in ("-h", "--help", "help"):
        context.output.data(_overview())
        return Exit.OK if rest else Exit.USAGE
    name, *more = rest
    if name in LATER:
        raise unavailable(f"istioctl {name} is not there yet", hint=LATER[name])
    if name not in HERE:
        raise usage(f'istioctl has no command "{name}"', "ostria istioctl --help")
    if HERE[name] == "manifest" and more[:1] not in ([], ["generate"], ["--help"], ["-h"]):
        raise unavailable(f"istioctl manifest {more[0]} is not there yet", hint="istioctl manifest generate")
    return main.run([HERE[name], *leading, *flags, *more], context)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags before the verb, and the rest."""
    flags: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        name, equals, _ = rest[0].partition("=")
        taken = [rest.pop(0)]
        if name in _VALUED and not equals and rest:
            taken.append(rest.pop(0))
        if name not in _DROPPED:
            flags += taken
    return flags, rest


def _overview() -> str:
    lines = ["These commands of istioctl work here:", ""]
    lines += [f"  {name:<16}ostria {verb}" for name, verb in HERE.items()]
    lines += ["", "These are not there yet:", ""]
    lines += [f"  {name:<16}{instead}".rstrip() for name, instead in LATER.items()]
    return "\n".join(lines)
