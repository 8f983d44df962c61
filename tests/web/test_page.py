"""If this fails, the page in the browser does not start, differs from PyTorch, or uses the network."""

from __future__ import annotations

import numpy as np
from page_visitor import Visitor

import style_transfer
from ganmod.cli.web.server import PageServer
from ganmod.io.images import resize_short_side
from style_transfer.procedural_styles import builtin_contents, draw_style


def test_a_photo_is_stylised_without_a_network(visitor: Visitor, server: PageServer) -> None:
    photo = resize_short_side(builtin_contents()["chelsea"], 77)
    style = draw_style("mosaic", 96, seed=5)
    visitor.choose_and_wait("photo", photo)  # replaces the built-in one
    visitor.wait()
    visitor.page.wait_for_selector("body[data-preloaded]", timeout=60_000)
    server.shutdown()
    server.server_close()
    visitor.choose_and_wait("style", style)
    visitor.wait()
    wanted = style_transfer.load().stylize(photo, style)
    assert np.abs(visitor.result().astype(int) - wanted).max() <= 2
    assert visitor.error() == ""
    assert not visitor.reports
    own = (server.address, f"blob:{server.address}")
    assert not [url for url in visitor.requests if not url.startswith((*own, "data:"))]
