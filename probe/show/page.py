"""A page of HTML that holds everything it shows: style and scripts by their hash, written whole or not at all."""

import base64
import hashlib
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from probe.errors import OutputError
from probe.show import facts, style

TEMPLATES = Path(__file__).with_name("templates")


def render_page(template: str, scripts: tuple[str, ...] = (), **context: Any) -> str:
    """A template with its context, the style of all reports, and scripts one after the other."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(percent=facts.percent, polyline=facts.polyline)
    css, js = style.css() + _read("report.css"), "".join(map(_read, scripts))
    page = environment.get_template(template)
    return page.render(css=css, js=js, css_hash=_hash(css), js_hash=_hash(js), version=_version(), **context)


def check_target(path: str | os.PathLike[str], exist_ok: bool) -> Path:
    """The path. Raises OutputError if something is there that is not to be replaced."""
    target = Path(path)
    if target.exists() and not (exist_ok and target.is_file()):
        raise OutputError(f"{target} exists already; choose another path, or give exist_ok=True to replace a file")
    return target


def _version() -> str:
    """The installed version of this package."""
    try:
        return metadata.version("diffusion-probe")
    except metadata.PackageNotFoundError:
        return "(from source)"


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def publish(content: str | bytes, target: Path) -> Path:
    """Write beside the target under a hidden name, then rename: never half a file under the final name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{target} cannot be written: {target.parent} is not a folder; choose another") from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}; choose a folder you may write to") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        part.chmod(0o644)
        os.replace(part, target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror}; free some space or choose a folder"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return target
