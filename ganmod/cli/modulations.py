"""`ganmod modulations`"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ganmod.cli.options.checks import import_plugins
from ganmod.cli.options.shared import json_option, plugin_option
from ganmod.modulation import list_modulations, modulation_info


@click.command()
@plugin_option
@json_option
def modulations(plugin: tuple[str, ...], as_json: bool) -> None:
    """List the registered modulations: the styles that they read, and their options with defaults."""
    import_plugins(plugin)
    infos = [modulation_info(name) for name in list_modulations()]
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=1))
        return
    width = max(len(info.name) for info in infos) + 2
    for info in infos:
        click.echo(f"{info.name:{width}}{info.summary}")
        click.echo(f"{'':{width}}  reads a style of kind {' or '.join(info.kinds)}")
        for option, default in info.options.items():
            click.echo(f"{'':{width}}  {option} = {default!r}")
