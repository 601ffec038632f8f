"""The table of commands, loaded when used, with errors turned into exit codes.

The group keeps its promises: ``--help`` imports no numerics, a mistake is one
line on stderr with exit code 2, a charge that a budget refuses is one with exit
code 3, and an interrupted run exits with 130.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from drdp import __version__
from drdp.errors import ChargeRefusedError, DrdpError

__all__ = ["LazyGroup", "main"]

_COMMANDS = {
    "calibrate": ("calibrate", "The noise that a budget, or a bound on risk, needs."),
    "epsilon": ("spend", "The epsilon that a run costs."),
    "delta": ("spend", "The delta that a run costs."),
    "steps": ("budget", "How many rounds a privacy budget buys."),
    "rate": ("budget", "The largest sampling rate that a budget allows."),
    "risk": ("risk", "What an attacker can achieve against a run."),
    "table": ("table", "The paper's table of noise and epsilon, or any grid."),
    "curve": ("curve", "Epsilon against rounds, or delta against epsilon."),
    "threat": ("threat", "What a run costs against whom, and the noise it needs."),
    "sweep": ("sweep", "Noise, epsilon or risk over a grid."),
    "statement": ("statement", "A guarantee with everything that belongs to it."),
    "compare": ("compare", "All accountants side by side on one event."),
    "train": ("train", "Train an adapter federatedly and privately."),
    "audit": ("audit", "Attack a run's own code, beside what is certified."),
    "compare-methods": ("compare_methods", "Methods by budgets, run and tabulated."),
    "ledger": ("ledger", "Keep account of a budget: charge, then release."),
    "report": ("report", "A run, or a comparison, as one page that stands alone."),
    "verify": ("verify", "Whether independent methods agree about an epsilon."),
}

_BAD_INPUT = 2
_REFUSED = 3
_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports the module of a command only to run that command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and take the command from it."""
        if cmd_name not in _COMMANDS:
            return None
        home, _ = _COMMANDS[cmd_name]
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"drdp.cli.{home}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where no command is given."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the known commands when one is mistyped."""
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            known = ", ".join(_COMMANDS)
            raise click.UsageError(
                f"No such command {args[0]!r}; the commands are {known}.", ctx
            )
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and exit.

        0 done, 2 bad input, 3 refused by a budget, 130 interrupted.
        """
        options: MutableMapping[str, Any] = {
            **extra,
            "complete_var": complete_var,
            "standalone_mode": False,
        }
        try:
            code = super().main(args, prog_name="drdp", **options)
        except click.UsageError as error:
            help_at = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
            _fail(error.format_message() + help_at)
        except click.ClickException as error:
            _fail(error.format_message())
        except ChargeRefusedError as error:
            _fail(str(error), _REFUSED)
        except DrdpError as error:
            _fail(str(error))
        except (click.Abort, KeyboardInterrupt):
            sys.exit(_INTERRUPTED)
        sys.exit(code or 0)


def _fail(message: str, code: int = _BAD_INPUT) -> NoReturn:
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(code)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command has a --help with examples.",
)
@click.version_option(__version__, "-V", "--version", prog_name="drdp")
def main() -> None:
    """Privacy accounting with certified bounds.

    \b
    drdp calibrate --epsilon 2 --steps 20 --rate 0.05
        how much noise do 20 rounds need, with 5 % of the clients in each?
    drdp epsilon --sigma 1 --steps 20 --rate 0.05
        what have 20 rounds with this noise cost?
    """  # noqa: D301 - click reads the escape as "leave these lines as they are"
