"""How often a classifier is wrong: its confusion matrix, on pictures whose labels are known."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from probe.bias.classifiers import MENAGERIE, TRAITS, Classifier, MenagerieJudge
from probe.bias.confusion import Confusion
from probe.bias.groups import read_table
from probe.errors import BadInput
from probe.generator.world import World
from probe.generator.world import vocabulary as v

EACH = 2  # scenes of each profession, gender and tone
RENDERED = "rendered scenes of Menagerie's world"
Truth = Mapping[str, str]
Pair = tuple[Image.Image, Truth]


def measure(classifier: Classifier, pairs: Iterable[Pair], *, source: str = "") -> dict[str, Confusion]:
    """The classifier's confusion matrix of each attribute that the pictures have a label of.

    `source` says which pictures they are. What is measured on rendered scenes or photographs need not hold for
    generated pictures, which may be harder. Raises BadInput for a label that the classifier, or that no picture, has.
    """
    names = classifier.labels
    counts = {name: np.zeros((len(labels), len(labels) + 1), int) for name, labels in names.items()}
    for picture, truth in pairs:
        readings = classifier.read(picture)
        for name, label in truth.items():
            classifier.check_labels(name, label)
            if name in readings:
                counts[name][names[name].index(label), _column(names[name], readings[name])] += 1
    seen = {name: table for name, table in counts.items() if table.any()}
    return {name: _confusion(names[name], table, source) for name, table in seen.items()}


def _column(labels: tuple[str, ...], read: str | None) -> int:
    return labels.index(read) if read is not None else len(labels)


def _confusion(labels: tuple[str, ...], table: np.ndarray, source: str) -> Confusion:
    rows = tuple(tuple(map(int, row)) for row in table[:, :-1])
    return Confusion(labels, rows, source, tuple(map(int, table[:, -1])))


def measure_rendered(classifier: Classifier, each: int = EACH) -> dict[str, Confusion]:
    """The same on rendered scenes; nothing for a classifier of other pictures, whose error nobody here can know."""
    if not isinstance(classifier, MenagerieJudge) and getattr(classifier, "source", "") != MENAGERIE:
        return {}
    known = {name: labels for name, labels in classifier.labels.items() if set(labels) == set(TRAITS.get(name, ()))}
    pairs = ((picture, {name: truth[name] for name in known}) for picture, truth in rendered(each))
    return measure(classifier, pairs, source=RENDERED) if known else {}


def rendered(each: int = EACH, *, seed: int = 1_000_000) -> Iterator[Pair]:
    """Scenes of Menagerie's world with one person, `each` of every profession, gender and tone; not generated."""
    world = World()
    kinds = product(range(each), v.PROFESSIONS, v.GENDERS, v.TONES)
    for number, (_, kind, gender, tone) in enumerate(kinds):
        scene = world.arrange([kind], seed + number, gender=gender, tone=tone)
        yield scene.picture, {"gender": gender, "tone": tone}


def labelled(table: str | Path) -> Iterator[Pair]:
    """Your own pictures: a CSV file with a column `file` (beside it) and one for each attribute. Raises BadInput."""
    path = Path(table).expanduser()
    for row in read_table(path, "file"):
        try:
            picture = Image.open(path.parent / row["file"]).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise BadInput(f"{path}: the picture {row['file']!r} cannot be read ({error}); check the name") from error
        yield picture, {name: label for name, label in row.items() if name != "file" and label}
