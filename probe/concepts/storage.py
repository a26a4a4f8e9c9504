"""Concepts on disk. A folder holds

numbers.safetensors    coefficients [word] float64, losses [step] float32
pictures/*.png         as `concept.json` lists them
concept.json           written last: words, settings, provenance, size and BLAKE2b hash of every other file
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from probe.concepts.concept import Concept
from probe.errors import BadInput, DamagedFile, OutputError
from probe.store.check import differences, read_checked
from probe.store.folder import new_folder
from probe.store.manifest import Entry, digest
from probe.store.pictures import decode_picture, encode_picture
from probe.store.plain import canonical, parse, plain, restore

NAME, NUMBERS = "concept.json", "numbers.safetensors"
LIMIT = 2**24  # bytes of concept.json
REMEDY = "Copy the concept again from where it came, or decompose it anew."


class Card(BaseModel):
    """What concept.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["probe concept"] = "probe concept"
    schema_version: Literal[1] = 1
    prompt: str
    template: str
    words: tuple[str, ...]
    norms: dict[str, float]
    settings: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    pictures: dict[str, tuple[str, ...]] = {}
    files: dict[str, Entry]


def write_concept(concept: Concept, folder: str | Path, *, exist_ok: bool = False) -> Path:
    """Save a concept as a new folder and return its path; with `exist_ok` it replaces an older concept.

    Raises OutputError when the folder exists or cannot be written; nothing is left behind then.
    """
    target = Path(folder)
    places = _places(concept)
    contents = {NUMBERS: _numbers(concept), **dict(_drawn(concept, places))}
    card = Card(
        prompt=concept.prompt,
        template=concept.template,
        words=concept.words,
        norms=dict(concept.norms),
        settings=plain(concept.settings, "settings"),
        provenance=plain(concept.provenance, "provenance"),
        pictures=places,
        files={name: Entry(size=len(data), blake2b=digest(data)) for name, data in contents.items()},
    )
    with new_folder(target, replaces=only_a_concept if exist_ok else None) as hidden:
        (hidden / "pictures").mkdir()
        for name, data in contents.items():
            (hidden / name).write_bytes(data)
        (hidden / NAME).write_bytes(canonical(plain(card.model_dump())))
    return target


def open_concept(folder: str | Path) -> Concept:
    """A saved concept. Raises DamagedFile when a file is missing, foreign or damaged."""
    root = Path(folder)
    card = _card(root)
    for name, what in differences(root, card.files, strays=False).items():
        raise DamagedFile(f"{root / name} {what}. {REMEDY}")
    data = {name: read_checked(root, name, entry) for name, entry in card.files.items()}
    try:
        numbers = load(data[NUMBERS])
        pictures = {
            name: tuple(decode_picture(data[place], place) for place in places)
            for name, places in card.pictures.items()
        }
        return Concept(
            card.prompt,
            card.words,
            tuple(numbers["coefficients"].tolist()),
            card.norms,
            template=card.template,
            losses=numbers["losses"],
            settings=restore(card.settings),
            provenance=restore(card.provenance),
            pictures=pictures,
        )
    except (KeyError, SafetensorError, BadInput) as error:
        raise DamagedFile(f"{root} is not a complete concept ({error}). {REMEDY}") from error


def only_a_concept(folder: Path) -> None:
    """Raise OutputError if a folder is no concept, so that it is not replaced."""
    if not (folder / NAME).is_file():
        raise OutputError(f"{folder} holds no {NAME}, so it is not a concept and is not replaced: choose another name")


def _card(root: Path) -> Card:
    path = root / NAME
    if path.is_symlink() or not path.is_file():
        raise DamagedFile(f"{root} holds no {NAME}, so it is not a concept: give a folder that `Concept.save` wrote")
    if path.stat().st_size > LIMIT:
        raise DamagedFile(f"{path} has {path.stat().st_size:,} bytes, at most {LIMIT:,} were expected. {REMEDY}")
    try:
        card = Card.model_validate(parse(path.read_bytes(), NAME))
    except ValidationError as error:
        raise DamagedFile(f"{path} does not describe a concept: {error}. {REMEDY}") from error
    listed = [NUMBERS, *(place for places in card.pictures.values() for place in places)]
    strange = [name for name in (*card.files, *listed) if name not in card.files or not _plain(name)]
    if strange:
        raise DamagedFile(f"{path} lists {strange[0]!r}, which is not a file of a concept: do not trust it")
    return card


def _plain(name: str) -> bool:
    return name == NUMBERS or (Path(name).parent.as_posix() == "pictures" and Path(name).suffix == ".png")


def _numbers(concept: Concept) -> bytes:
    losses = np.ascontiguousarray(concept.losses, np.float32)
    return save({"coefficients": np.asarray(concept.coefficients, np.float64), "losses": losses})


def _places(concept: Concept) -> dict[str, tuple[str, ...]]:
    """The files of the pictures, by what they show; a word is no file name, so they are numbered."""
    return {
        name: tuple(f"pictures/{i}-{k}.png" for k in range(len(shown)))
        for i, (name, shown) in enumerate(concept.pictures.items())
    }


def _drawn(concept: Concept, places: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, bytes]]:
    for name, shown in concept.pictures.items():
        yield from ((place, encode_picture(each, "")) for place, each in zip(places[name], shown, strict=True))
