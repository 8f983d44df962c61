"""If this fails, `ganmod web` serves other files than the page's, wrong headers, or --build is incomplete."""

from __future__ import annotations

import json
import re
import runpy
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml
from page_visitor import serve

from ganmod.cli.web import prepare, runtime
from ganmod.cli.web.page import BUILT, NEEDED, PAGE, Content, PageError, collect_page, write_page
from ganmod.cli.web.runtime import RuntimeFilesError, unpack_runtime
from ganmod.cli.web.server import PageServer


def ask(
    server: PageServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    connection = HTTPConnection(*server.server_address[:2])
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_files_have_their_types_and_the_headers_for_threads(folder_of_page: Path) -> None:
    kinds = {
        "/": "text/html; charset=utf-8",
        "/app.js": "text/javascript; charset=utf-8",
        f"/{BUILT}/ort/ort.wasm.bundle.min.mjs": "text/javascript; charset=utf-8",
        f"/{BUILT}/ort/ort-wasm-simd-threaded.wasm": "application/wasm",
        f"/{BUILT}/ort/LICENSE": "text/plain; charset=utf-8",
        f"/{BUILT}/page.json?x=1": "application/json",
    }
    with serve(collect_page(folder_of_page)) as server:
        assert server.address.startswith("http://127.0.0.1:")
        for path, kind in kinds.items():
            status, headers, body = ask(server, path)
            assert (status, headers["Content-Type"]) == (200, kind), path
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert int(headers["Content-Length"]) == len(body) > 0
        assert ask(server, "/app.js")[2] == b"app.js"
        status, headers, body = ask(server, "/app.js", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "6", b"")


def test_nothing_beyond_the_page_is_served(folder_of_page: Path) -> None:
    (folder_of_page.parent / "secret.txt").write_text("secret")
    (folder_of_page / ".hidden").write_text("secret")
    (folder_of_page / f".{BUILT}").mkdir()
    (folder_of_page / f".{BUILT}" / "half.onnx").write_text("secret")
    content = collect_page(folder_of_page)
    (folder_of_page / "later.txt").write_text("secret")
    with serve(content) as server:
        for path in (
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            f"/{BUILT}/../../secret.txt",
            f"/{folder_of_page.parent}/secret.txt",
            "/.hidden",
            f"/.{BUILT}/half.onnx",
            "/later.txt",
            f"/{BUILT}",
            f"/{BUILT}/",
        ):
            status, headers, body = ask(server, path)
            assert status == 404, path
            assert b"secret" not in body
            assert headers["Content-Type"].startswith("text/plain")
        assert ask(server, "/app.js", "POST")[0] == 501


def test_another_host_is_refused(folder_of_page: Path) -> None:
    with serve(collect_page(folder_of_page)) as server:
        port = server.server_address[1]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            assert ask(server, "/app.js", host=host)[2] == b"app.js"
        for host in ("127.0.0.1", f"127.0.0.1:{port + 1}", f"evil.example:{port}", f"localhost.evil:{port}"):
            status, _, body = ask(server, "/app.js", host=host)
            assert (status, body) == (403, f"open {server.address}\n".encode()), host


def test_a_file_that_vanished_is_missing_and_errors_are_shown(
    folder_of_page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = collect_page(folder_of_page)
    (folder_of_page / "app.js").unlink()
    with serve(content) as server:
        assert ask(server, "/app.js")[0] == 404
        for error, shown in ((ConnectionResetError("left"), False), (ZeroDivisionError("a mistake"), True)):
            try:
                raise error
            except type(error):
                server.handle_error(None, None)
            assert (str(error) in capsys.readouterr().err) == shown


def test_page_json_lists_large_files_and_the_generator(folder_of_page: Path, tmp_path: Path) -> None:
    def config(content: dict) -> dict:
        return json.loads(content[f"{BUILT}/page.json"])

    plain = collect_page(folder_of_page)
    wasm = "ort/ort-wasm-simd-threaded.wasm"
    assert config(plain) == {"generator": False, "bytes": {wasm: len(f"{BUILT}/{wasm}")}}
    for name in ("mapping.onnx", "synthesis.onnx", "generator.json"):
        (tmp_path / name).write_text(name)
    full = collect_page(folder_of_page, tmp_path)
    assert set(full) - set(plain) == {
        f"{BUILT}/generator/{name}" for name in ("mapping.onnx", "synthesis.onnx", "generator.json")
    }
    assert config(full)["generator"]
    assert config(full)["bytes"]["generator/mapping.onnx"] == len("mapping.onnx")


def test_build_writes_every_file_and_the_header_of_a_space(folder_of_page: Path, tmp_path: Path) -> None:
    content, out = collect_page(folder_of_page), tmp_path / "out"
    for _ in range(2):  # an existing page is written over
        size = write_page(content, out)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {*content, "README.md"}
    assert size == sum((out / name).stat().st_size for name in names)
    header = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "static"
    assert header["custom_headers"] == {
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
        "cross-origin-resource-policy": "same-origin",
    }
    (out / "diary.txt").write_text("mine")
    with pytest.raises(PageError, match=r"holds diary\.txt, .* expected a new or empty folder"):
        write_page(content, out)
    with pytest.raises(PageError, match="is a file: expected a folder"):
        write_page(content, out / "diary.txt")


def test_the_command_builds_or_names_make_web(
    folder_of_page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ganmod_command
) -> None:
    calls = []

    def collect(**kwargs: Path) -> dict[str, Content]:
        calls.append(kwargs)
        return collect_page(**kwargs)

    monkeypatch.setattr(collect_page, "__defaults__", (folder_of_page, None))
    monkeypatch.setattr("ganmod.cli.web.command.collect_page", collect)
    ended = ganmod_command("web", "--build", tmp_path / "site")
    assert ended.code == 0, ended.err
    assert len(calls) == 1
    assert ended.out.startswith(f"wrote {tmp_path / 'site'}: {len(collect_page()) + 1} files, ")
    assert (tmp_path / "site" / "index.html").is_file()
    assert ganmod_command("web", "--build", tmp_path / "site", "--port", 80).code == 2
    (folder_of_page / BUILT / NEEDED[0]).unlink()
    ended = ganmod_command("web")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "make web" in ended.err


def test_the_sources_name_no_other_host() -> None:
    sources = [path for path in PAGE.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert len(sources) >= 14
    for path in sources:
        if BUILT not in path.parts:
            found = re.findall(r"(?:https?:)?//[\w.-]+\.\w{2,}[^\s\"']*", path.read_text(encoding="utf-8"))
            assert set(found) <= {"http://www.w3.org/2000/svg"}, path


def test_a_port_in_use_is_named(
    folder_of_page: Path, monkeypatch: pytest.MonkeyPatch, ganmod_command
) -> None:
    monkeypatch.setattr(collect_page, "__defaults__", (folder_of_page, None))
    with serve(collect_page()) as server:
        ended = ganmod_command("web", "--port", server.server_address[1])
    assert ended.code == 2
    assert f"--port {server.server_address[1]} cannot be used" in ended.err


def test_another_archive_of_the_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "onnxruntime-web.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(RuntimeFilesError, match=f"expected {runtime.SHA256}"):
        unpack_runtime(archive, tmp_path / "ort")
    assert not (tmp_path / "ort").exists()
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeFilesError, match="npm is missing"):
        runtime.fetch_runtime(tmp_path / "ort")


def test_make_web_without_npm_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("ganmod.io.program_file.check_export_packages", lambda file_format: None)
    monkeypatch.setattr("ganmod.cli.web.page.PAGE", tmp_path)
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(prepare.__file__, run_name="__main__")
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("Error: the command npm is missing")
