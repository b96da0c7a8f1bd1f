"""The folder of a web page: a model, the runtime and a small program, in files that a browser opens from a disk too."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from specenhance._files import write_bytes, write_text
from specenhance._names import markup
from specenhance.deploy.web.onnxruntime_web import FILES, VERSION

__all__ = ["STATIC", "check_place", "is_page", "script", "write_page"]

STATIC = ("style.css", "sound.js", "drawing.js", "page.js")
"""Files of a page that are the same for all models."""
MARK = "model.js"
START = b"window.MODEL = "
NAMES = {*STATIC, MARK, "runtime.js", "index.html", "labels.json"}


def write_page(folder: Path, model: Path, about: Mapping[str, Any], runtime: Mapping[str, bytes]) -> None:
    """Write the files of a page.

    Browsers refuse to load WebAssembly or modules from a disk, but not scripts. So the model and the runtime are scripts that
    hold them as base64. They are a third longer than the files.

    Args:
        folder: the folder, which is there.
        model: an ONNX file from waveforms, whose outputs are :data:`specenhance.deploy.program.OUTPUTS`.
        about: its metadata, see :data:`specenhance.deploy.metadata.SCHEMA`.
        runtime: :func:`specenhance.deploy.web.onnxruntime_web.runtime_files`.

    >>> import tempfile
    >>> about = {"classes": ["no", "yes"], "bins": 128, "frontend": "tfe4", "backbone": "resnet18", "specenhance": "0.1.0"}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     (Path(name) / "model.onnx").write_bytes(b"a model")
    ...     write_page(Path(name), Path(name) / "model.onnx", about, dict.fromkeys(FILES, b"a runtime"))
    ...     sorted(path.name for path in Path(name).iterdir())
    7
    ['drawing.js', 'index.html', 'labels.json', 'model.js', 'model.onnx', 'page.js', 'runtime.js', 'sound.js', 'style.css']
    """
    program, webassembly = (runtime[name] for name in FILES)
    here = Path(__file__).parent / "static"
    for name in STATIC:
        write_bytes(folder / name, (here / name).read_bytes())
    write_text(folder / "labels.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / MARK, script("MODEL", {"about": about, "onnx": _base64(model.read_bytes())}))
    write_text(
        folder / "runtime.js",
        script("RUNTIME", {"version": VERSION, "program": _base64(program), "webassembly": _base64(webassembly)}),
    )
    templates = Environment(
        loader=PackageLoader("specenhance.deploy.web", "static"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["name"] = lambda name: Markup(markup(name))
    page = templates.get_template("index.html.j2").render(about=about, runtime=VERSION)
    write_text(folder / "index.html", page + "\n")


def script(name: str, value: Any) -> str:
    r"""Write a value as a script that makes it known under a name.

    >>> script("MODEL", {"label": "</script>"})
    'window.MODEL = {"label": "\\u003c/script>"};\n'
    """
    text = json.dumps(value).replace("<", "\\u003c")
    return f"window.{name} = {text};\n"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def is_page(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is a page that :func:`write_page` wrote, with no other file in it.

    >>> is_page(".")
    False
    """
    mark = Path(folder, MARK)
    if not mark.is_file():
        return False
    with mark.open("rb") as opened:
        return opened.read(len(START)) == START and {entry.name for entry in Path(folder).iterdir()} == NAMES


def check_place(folder: str | os.PathLike[str], option: str = "--out") -> None:
    """Refuse a place where no page can be written, before the work. An older page there will be replaced.

    Args:
        folder: the page's folder.
        option: what chose it, for the message.

    Raises:
        FileExistsError: for a file, and for a folder that holds something else.
        FileNotFoundError: if the folder around it is not there.
        OSError: if nothing can be written there.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.parent.exists():
        raise FileNotFoundError(
            f"{folder}: there is no folder {folder.parent}; make it (mkdir -p {folder.parent}) or choose another {option}"
        )
    if folder.exists() and not (folder.is_dir() and (is_page(folder) or not any(folder.iterdir()))):
        raise FileExistsError(f"{folder}: is there already, and holds other files than a page; choose another {option}")
    if not os.access(folder.parent, os.W_OK):
        raise PermissionError(f"{folder}: nothing can be written in {folder.parent}; choose another {option}")
