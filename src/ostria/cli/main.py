"""The entry: finds the verb, loads its module, runs it, and turns whatever goes wrong into words and an exit code.

Nothing is imported that `--help`, `version` and completion do not need; each verb's module is loaded when called, and
imports at its top no more than its flags need. `ostria agent ...` runs in every pod and comes before everything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    import argparse
    from types import ModuleType

    from ostria.cli.output import Output


class Verb(NamedTuple):
    """One verb: the module of `ostria.cli` that has its `arguments` and `run`, and what it is for in a few words."""

    module: str
    summary: str


GROUPS: Mapping[str, Mapping[str, Verb]] = {
    "A mesh on this machine": {
        "demo": Verb("demo", "start a mesh with the Bookinfo sample and print the page's address"),
        "up": Verb("up", "start a mesh, and follow folders of manifests"),
        "down": Verb("down", "end a mesh"),
        "status": Verb("status", "what runs, and every problem"),
        "call": Verb("call", "make real requests from inside a pod"),
        "run": Verb("run", "run a local program as a workload of the mesh"),
        "doctor": Verb("doctor", "whether this machine can run a mesh, and what to do if not"),
        "kubeconfig": Verb("kubeconfig", "the mesh's kubeconfig, for kubectl and other tools"),
        "shell": Verb("shell", "a shell in which kubectl and istioctl mean the mesh"),
        "samples": Verb("samples", "the sample applications"),
    },
    "Objects": {
        "apply": Verb("apply", "create or change objects from files"),
        "get": Verb("get", "list objects"),
        "delete": Verb("delete", "delete objects"),
        "logs": Verb("logs", "what containers have printed"),
    },
    "The mesh, as istioctl has it": {
        "install": Verb("install", "install Ostria on a cluster"),
        "uninstall": Verb("uninstall", "remove it again"),
        "verify-install": Verb("verify_install", "whether what was installed is there and ready"),
        "manifest": Verb("manifest", "print the manifests that install would apply"),
        "simulate": Verb("simulate", "what becomes of a call, without making it"),
        "gateway": Verb("gateway", "tls-check: what a client of a TLS server sees, with a grade"),
        "proxy-status": Verb("proxy_status", "whether each proxy has what it should"),
        "proxy-config": Verb("proxy_config", "what a pod's Envoy holds"),
        "certs": Verb("certs", "every certificate that proxies show, and what is wrong with it"),
        "join-token": Verb("join_token", "one-time tokens by which machines outside of the cluster join"),
        "istioctl": Verb("istioctl", "take a command line of istioctl's"),
    },
    "This program": {
        "config": Verb("config", "its settings, and where each comes from"),
        "version": Verb("version", "the versions of all parts"),
        "completion": Verb("completion", "a script that completes commands in your shell"),
    },
}
VERBS: Mapping[str, Verb] = {name: verb for group in GROUPS.values() for name, verb in group.items()}
ALIASES: Mapping[str, str] = {"ps": "proxy-status", "pc": "proxy-config"}

# Flags that may stand before the verb, as with kubectl: whether each takes a value.
_LEADING = {
    "--debug": False,
    "--mesh": True,
    "--context": True,
    "--kubeconfig": True,
    "-n": True,
    "--namespace": True,
}


class Context(NamedTuple):
    """What a verb gets beside its arguments. The environment is read from here only."""

    env: Mapping[str, str]
    output: Output


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (see errors.Exit)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["agent"]:
        from ostria.agent.main import main as agent

        return agent(words[1:], os.environ)
    from ostria.cli.errors import Exit, explain
    from ostria.cli.output import Output

    output = Output.of_process(os.environ)
    try:
        return run(words, Context(os.environ, output))
    except SystemExit:
        raise
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has what it wants; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except BaseException as error:
        if "--debug" in words:
            import traceback

            output.progress(traceback.format_exc())
        found = explain(error)
        output.progress(str(found))
        return found.code


def run(words: Sequence[str], context: Context) -> int:
    """Run one command line with these streams and this environment. Raises CliError, and whatever a verb raises."""
    from ostria.cli.errors import Exit, usage

    leading, name, rest = _split(words)
    if name in ("", "-h", "--help", "help"):
        context.output.data(overview())
        return Exit.OK if name else Exit.USAGE
    if name in ("-v", "--version"):
        name = "version"
    name = ALIASES.get(name, name)
    if name not in VERBS:
        import difflib

        near = difflib.get_close_matches(name, VERBS, 1)
        raise usage(f'there is no command "{name}"', f"ostria {near[0]}" if near else "ostria --help")
    module = load(name)
    if name == "istioctl":
        # Everything behind it is istioctl's to say, flags included.
        return int(module.translate(rest, leading, context))
    made = parser(name, module)
    # Flags belong to the inner verb where there is one (`proxy-config cluster`).
    at = 1 if made._subparsers is not None and rest and not rest[0].startswith("-") else 0
    return int(module.run(made.parse_args([*rest[:at], *leading, *rest[at:]]), context))


def load(name: str) -> ModuleType:
    """A verb's module."""
    import importlib

    return importlib.import_module(f"ostria.cli.{VERBS[name].module}")


def parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """A verb's parser. Its mistakes are raised as CliError."""
    import argparse

    from ostria.cli.errors import usage

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise usage(message, f"{self.prog} --help")

    made = Parser(
        prog=f"ostria {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.arguments(made)
    made.add_argument("--debug", action="store_true", help="on an error, print where in Ostria it arose")
    return made


def overview() -> str:
    """The text of `ostria --help`."""
    lines = ["Ostria: a service mesh that speaks Istio's language.", "", "usage: ostria COMMAND [flags]"]
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<16}{verb.summary}" for name, verb in verbs.items())]
    lines += ["", "Begin with: ostria demo", "Every command explains its flags: ostria COMMAND --help"]
    return "\n".join(lines)


def _split(words: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """The flags before the verb, the verb ("" if there is none), what follows."""
    rest = list(words)
    leading: list[str] = []
    while rest and rest[0].partition("=")[0] in _LEADING:
        word = rest.pop(0)
        leading.append(word)
        if _LEADING[word.partition("=")[0]] and "=" not in word and rest:
            leading.append(rest.pop(0))
    return leading, rest[0] if rest else "", rest[1:]


if __name__ == "__main__":
    sys.exit(main())
