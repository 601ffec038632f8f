"""The command line: parse, call, print.

Every command lives in a module of its own group, which is imported when the
command is used; ``drdp --help`` loads none of them.
"""

from drdp.cli.entry import main

__all__ = ["main"]
