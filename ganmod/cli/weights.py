"""`ganmod weights`"""

from __future__ import annotations

import json

import click

from ganmod.cli.options.shared import json_option


@click.command()
@json_option
def weights(as_json: bool) -> None:
    """List the files of pretrained weights that ganmod can use, and whether they are there.

    Nothing is downloaded: fetch a file from its source, then place it where it is looked for, or pass its
    path with one of its options.
    """
    from metrics.features.known_files import known_files

    files = known_files()
    if as_json:
        click.echo(json.dumps([file.to_json() for file in files], indent=1))
        return
    for file in files:
        click.echo(f"{file.name}: {'there' if file.found is not None else 'not found'}")
        for label, text in file.lines():
            click.echo(f"    {label:10}{text}")
