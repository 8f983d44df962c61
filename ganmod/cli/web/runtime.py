"""onnxruntime-web, which computes the networks in the browser: its pinned version, fetched with npm."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"  # of the archive from npm
# Name in the page's folder: path in the archive.
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "package/dist/ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}
# The archive lacks them; the Python package onnxruntime, of the same project, has them.
LICENCE_FILES = ("LICENSE", "ThirdPartyNotices.txt")


class RuntimeFilesError(ValueError):
    """onnxruntime-web cannot be fetched, or is not the pinned version."""


def fetch_runtime(folder: Path) -> None:
    """Fetch onnxruntime-web with npm, as it is configured, check its SHA-256 and unpack RUNTIME_FILES.

    Raises RuntimeFilesError without npm, without a network, and for another archive.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeFilesError(
            "the command npm is missing, expected it to fetch onnxruntime-web: install Node.js"
        )
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--ignore-scripts"]
        ended = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        archives = list(Path(temporary).glob("*.tgz"))
        if ended.returncode or len(archives) != 1:
            lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise RuntimeFilesError(
                f"`npm pack {PACKAGE}@{VERSION}` failed ({lines[0]}): check the network and npm's registry"
            )
        unpack_runtime(archives[0], folder)


def unpack_runtime(archive: Path, folder: Path, sha256: str = SHA256) -> None:
    """Check the archive and write RUNTIME_FILES; RuntimeFilesError for another archive."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256:
        raise RuntimeFilesError(
            f"{archive.name} has the SHA-256 {digest}, expected {sha256}: it is not the version that was "
            "checked, do not use it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as packed:
        for name, member in RUNTIME_FILES.items():
            data = packed.extractfile(member)
            assert data is not None  # the archive is known by its hash
            (folder / name).write_bytes(data.read())


def copy_licences(folder: Path) -> None:
    """Copy onnxruntime's LICENCE_FILES from its Python package; RuntimeFilesError without it."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise RuntimeFilesError(
            "the package onnxruntime is missing, expected it for its licences: pip install 'ganmod[export]'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in LICENCE_FILES:
        shutil.copyfile(Path(spec.origin).with_name(name), folder / name)
