"""`ganmod compare`: training runs side by side, or with `style` style-transfer models pair by pair."""

from __future__ import annotations

import shlex
from typing import Any

import click

from ganmod.cli.compare.runs import runs_command
from ganmod.cli.compare.style import style_command
from ganmod.cli.measure.options import COMMAND_LINE

DEFAULT = "runs"


class CompareGroup(click.Group):
    """A group whose default subcommand is `runs`."""

    def spell_out(self, args: list[str]) -> list[str]:
        """The arguments with the subcommand first: `style` for the former `--style`, by default `runs`."""
        if args and args[0] in self.commands:
            return args
        if "--style" in args:
            return ["style", *(argument for argument in args if argument != "--style")]
        return [DEFAULT, *args]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_LINE] = shlex.join(["ganmod", "compare", *args])
        spelled_out = self.spell_out(args)
        if "--style" in args and "--style" not in spelled_out:
            click.echo("`ganmod compare --style` is now spelled `ganmod compare style`", err=True)
        return super().parse_args(ctx, spelled_out)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, self.spell_out(args))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            for name, command in self.commands.items():
                if any(error.option_name in option.opts for option in command.params):
                    message = f"{error.option_name} is an option of `ganmod compare {name}`"
                    raise click.UsageError(message, error.ctx) from error
            raise


@click.command(cls=CompareGroup)
def compare() -> None:
    """Compare training runs, or style-transfer models."""


compare.add_command(runs_command)
compare.add_command(style_command)
