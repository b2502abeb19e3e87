"""Print a script that completes commands and flags in your shell.

bash: source <(ostria completion bash); zsh: the same, with zsh; fish: ostria completion fish | source
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ostria.cli.errors import Exit
from ostria.cli.main import VERBS, Context, load, parser


def arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="which shell")


def run(args: argparse.Namespace, context: Context) -> int:
    """Print it."""
    words = {name: _words(parser(name, load(name))) for name in VERBS}
    context.output.data({"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](words))
    return Exit.OK


def _words(made: argparse.ArgumentParser) -> list[str]:
    """The flags and the inner verbs of a verb."""
    found: list[str] = []
    for action in made._actions:
        if action.help != argparse.SUPPRESS:
            found += action.option_strings
            if not action.option_strings and action.choices:
                found += list(action.choices)
            if isinstance(action, argparse._SubParsersAction):
                for inner in action.choices.values():
                    found += _words(inner)
    return list(dict.fromkeys(found))


def _bash(words: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f'    {name}) words="{" ".join(flags)}" ;;' for name, flags in words.items())
    return f"""_ostria() {{
  local words="{" ".join(words)}"
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _ostria ostria
"""


def _zsh(words: Mapping[str, Sequence[str]]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(words)}"


def _fish(words: Mapping[str, Sequence[str]]) -> str:
    lines = ["complete -c ostria -f -n __fish_use_subcommand -a '" + " ".join(words) + "'"]
    for name, flags in words.items():
        lines.append(f"complete -c ostria -n '__fish_seen_subcommand_from {name}' -a '{' '.join(flags)}'")
    return "\n".join(lines) + "\n"
