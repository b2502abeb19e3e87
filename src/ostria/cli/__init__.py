"""The command line: one module per verb family, loaded when it is called, and no logic that is not a library call.

    argv -> main -> the verb's module: arguments(parser), run(args, context) -> exit code

stdout is data, stderr is progress. See docs/cli.md.
"""
