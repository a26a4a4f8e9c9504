"""A concept in a report: pictures, words with coefficients, how good it is; a section, or a page of its own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from probe.show.pack import pack_picture
from probe.show.page import check_target, publish, render_page

ROWS = 20  # words in the table
SMALL = (64, 64)  # pixels that a picture of a word may have
READINGS: Mapping[str, tuple[str, str]] = {
    "cosine": ("CLIP cosine", "of pictures at equal seeds; -1 to 1, 1 where CLIP sees no difference"),
    "distance": ("patch distance", "squared distance of CLIP's patch features; 0 for equal pictures"),
    "kid": (
        "KID",
        "between both sets of pictures; about 0 for sets of one origin, and noisy for few",
    ),
    "diversity": ("diversity of words", "1 - cosine of CLIP's text features, mean over pairs of the largest words"),
    "stability": ("stability", "share of the ten largest words that decompositions at other seeds have too"),
}


@dataclass(frozen=True)
class ConceptCard:
    """What a report says of a concept. `words`: (word, coefficient, share), largest first; `pictures`: by title;
    `drawn`: pictures of single words; `measures`: by the names of `READINGS`; `lists`: titled rows of names and values.
    """

    prompt: str
    words: Sequence[tuple[str, float, float]]
    subtitle: str = ""
    pictures: Mapping[str, Sequence[Image.Image]] = field(default_factory=dict)
    drawn: Mapping[str, Image.Image] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    lists: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


def concept_report(card: ConceptCard, path: str | os.PathLike[str], *, exist_ok: bool = False) -> Path:
    """Write a concept's page as one HTML file and return its path; see `probe.show.report`. Raises OutputError."""
    target = check_target(path, exist_ok)
    return publish(render_concept(card), target)


def render_concept(card: ConceptCard) -> str:
    """The page as a string of HTML."""
    more = {"prompt": card.prompt, "subtitle": card.subtitle, "lists": card.lists}
    return render_page("concept.html.j2", concept=concept_page(card), **more)


def concept_page(card: ConceptCard) -> dict[str, Any]:
    """What the section's template is given."""
    shown = card.words[:ROWS]
    return {
        "prompt": card.prompt,
        "told": "Words whose mixed embeddings, in the place of the phrase, the model draws as it draws the phrase.",
        "pictures": {title: [pack_picture(each) for each in row] for title, row in card.pictures.items() if row},
        "rows": list(_rows(card)),
        "drawn": any(word in card.drawn for word, _, _ in shown),
        "rest": len(card.words) - len(shown),
        "remainder": sum(abs(share) for _, _, share in card.words[ROWS:]),
        "measures": list(_measures(card.measures)),
        "pairs": card.measures.get("pictures"),
    }


def _rows(card: ConceptCard) -> Iterator[dict[str, Any]]:
    largest = max(abs(value) for _, value, _ in card.words) or 1.0
    for word, value, share in card.words[:ROWS]:
        picture = _small(card.drawn[word]) if word in card.drawn else ""
        yield {"word": word, "value": value, "share": share, "length": 100 * abs(value) / largest, "picture": picture}


def _small(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail(SMALL)
    return pack_picture(small)


def _measures(values: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    for name, (title, reading) in READINGS.items():
        if name in values:
            yield {"title": title, "value": values[name], "reading": reading}
