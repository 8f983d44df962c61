"""`ganmod web`: serves the page that stylises in the browser, or writes it for a static host."""

from __future__ import annotations

import contextlib
import tempfile
import webbrowser
from pathlib import Path

import click

from ganmod.cli.options.generator import MODEL
from ganmod.cli.options.paths import OutputPath, refuse_inputs
from ganmod.cli.web.page import collect_page, write_page
from ganmod.cli.web.server import HOST, PageServer


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--generator",
    type=MODEL,
    metavar="MODEL",
    help="A StyleGAN2 generator to sample in a second tab.",
)
@click.option(
    "--build",
    type=OutputPath(),
    metavar="DIR",
    help="Write the page's folder instead, for any static host; a Hugging Face Space takes it as it is.",
)
def web(port: int, open_browser: bool, generator: Path | None, build: Path | None) -> None:
    """Stylise in the browser: photos stay on the machine, networks run in WebAssembly.

    Serves the page to this machine until Ctrl+C. The files that it needs are fetched and exported once by
    `make web`.
    """
    if build is not None and (open_browser or port):
        raise click.UsageError("--build writes files and serves nothing: leave out --port and --open")
    if build is not None:
        refuse_inputs(build)
    content = collect_page()  # fails early
    with contextlib.ExitStack() as stack:
        if generator is not None:
            from ganmod.cli.web.generator import export_generator_files

            exported = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            export_generator_files(generator, exported, lambda step: click.echo(step, err=True))
            content = collect_page(generator=exported)
        if build is not None:
            size = write_page(content, build)
            click.echo(f"wrote {build}: {len(content) + 1} files, {size / 1e6:.1f} MB")
            return
        try:
            server = stack.enter_context(PageServer(content, port))
        except OSError as error:
            raise click.UsageError(
                f"--port {port} cannot be used ({error.strerror}): choose another, or leave it out for a "
                "free one"
            ) from error
        click.echo(f"{server.address} (only this machine, {HOST}; Ctrl+C ends it)")
        if open_browser:
            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
