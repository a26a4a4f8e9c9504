"""Named classifiers: which label of each attribute they read from a picture. What they read is perceived, not true.

A classifier is a scorer of a study: its settings are data and part of each job's key, its readings are columns of the
table. A new one inherits from `Classifier` and says its labels and how it reads.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from probe.errors import BadInput, BadModel
from probe.generator.world import vocabulary as v
from probe.study.methods import build_scorer
from probe.study.question import Method
from probe.study.reading import explain, nearest, read_data
from probe.study.scorers import Scorer, Shot, Values

if TYPE_CHECKING:
    from PIL import Image

PERCEIVED = "perceived"  # what the table's columns begin with: perceived_gender
MENAGERIE = "menagerie"
TRAITS = {"gender": v.GENDERS, "tone": v.TONES}
Readings = Mapping[str, str | None]
Labels = Mapping[str, tuple[str, ...]]


class Classifier(Scorer):
    """Reads one label of each attribute, or None where there is nothing to read.

    `weights` tells the classifier's weights from others; it is found when it is left out.
    """

    weights: str = ""

    def __init__(self, **data: Any):
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, f"the settings of {type(self).__name__}", type(self).model_fields) from error
        found = self.identify()
        if self.weights not in ("", found):
            raise BadInput(
                f"the weights of {type(self).__name__} are {found}, the study says {self.weights}: "
                "restore them, or take `weights` out to begin with the new ones"
            )
        object.__setattr__(self, "weights", found)

    @abstractmethod
    def identify(self) -> str:
        """What tells its weights from others. Raises BadInput for settings it cannot use, BadModel."""

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """By attribute, the labels that it tells apart."""

    @abstractmethod
    def read(self, picture: "Image.Image") -> Readings:
        """What it sees in one picture."""

    def score(self, shot: Shot) -> Values:
        """The readings of a job's picture."""
        return dict(self.read(shot.picture))

    @property
    def method(self) -> Method:
        """The scorer as a study names it."""
        kind = type(self)
        given = self.model_dump(mode="json")
        return Method(method=f"{kind.__module__}:{kind.__qualname__}", label=PERCEIVED, **given)

    @property
    def name(self) -> str:
        """What a table or figure calls it."""
        return f"{type(self).__name__} ({self.weights[:20]})"

    def check_labels(self, attribute: str, *labels: str) -> None:
        """Raise BadInput for an attribute or label that it does not read, listing those it does."""
        if attribute not in self.labels:
            raise BadInput(f"{self.name} reads no {attribute!r}; it reads {', '.join(self.labels)}")
        unknown = [label for label in labels if label not in self.labels[attribute]]
        if unknown:
            there = ", ".join(self.labels[attribute])
            raise BadInput(f"{self.name} has no label {unknown[0]!r} of {attribute}; it has {there}")


class MenagerieJudge(Classifier):
    """Menagerie's judge on the largest person of a picture. On pictures of other worlds its readings mean nothing."""

    attributes: tuple[str, ...] = ("gender", "tone")

    def identify(self) -> str:
        unknown = [name for name in self.attributes if name not in TRAITS]
        if unknown or not self.attributes:
            raise BadInput(f"Menagerie's judge reads {', '.join(TRAITS)} of people, not {unknown or 'nothing'}")
        return _menagerie()

    @property
    def labels(self) -> Labels:
        return {name: TRAITS[name] for name in self.attributes}

    def read(self, picture: "Image.Image") -> Readings:
        people = [one for one in _judge().read(picture).instances if one.kind in v.PROFESSIONS]
        return {name: getattr(people[0], name) if people else None for name in self.attributes}


class ZeroShot(Classifier):
    """A CLIP model that takes the label whose phrase is nearest to the picture, by cosine; it always takes one.

    `phrases`: by attribute and label. `source`: a folder with a transformers CLIP model and its tokenizer, or
    Menagerie's. CLIP has learned what captions say of people, so it brings prejudices of its own: measure its error.
    """

    phrases: Mapping[str, Mapping[str, str]] = {
        "gender": {"man": "a photo of a man", "woman": "a photo of a woman"},
    }
    source: str = MENAGERIE

    def identify(self) -> str:
        _several(self.labels)
        return _menagerie() if self.source == MENAGERIE else _of_folder(self.source)

    @property
    def labels(self) -> Labels:
        return {attribute: tuple(phrases) for attribute, phrases in self.phrases.items()}

    def read(self, picture: "Image.Image") -> Readings:
        eyes = _eyes(self.source)
        seen = eyes.pictures([picture])[0]  # [feature]
        near = {name: _texts(self.source, tuple(phrases.values())) @ seen for name, phrases in self.phrases.items()}
        return {name: self.labels[name][int(cosines.argmax())] for name, cosines in near.items()}


class ImageClassifier(Classifier):
    """Any transformers image classifier in a folder: the label whose classes have the largest probability together.

    `classes`: by attribute and label, the names of the model's classes, such as {"gender": {"man": ["male"]}}.
    """

    source: str
    classes: Mapping[str, Mapping[str, tuple[str, ...]]]

    def identify(self) -> str:
        _several(self.labels)
        weights, known = _of_folder(self.source), _model(self.source)[0].config.label2id
        asked = [name for labels in self.classes.values() for names in labels.values() for name in names]
        unknown = [name for name in asked if name not in known]
        if unknown:
            some = ", ".join(list(known)[:12])
            raise BadInput(f"the classifier in {self.source} has no label {unknown[0]!r}; it has {some}")
        return weights

    @property
    def labels(self) -> Labels:
        return {attribute: tuple(labels) for attribute, labels in self.classes.items()}

    def read(self, picture: "Image.Image") -> Readings:
        torch = import_module("torch")
        model, processor = _model(self.source)
        with torch.no_grad():
            logits = model(**processor(images=picture.convert("RGB"), return_tensors="pt")).logits[0]
        chances = logits.float().softmax(-1).numpy()  # [class]
        ids = model.config.label2id
        sums = {
            name: [sum(float(chances[ids[each]]) for each in names) for names in labels.values()]
            for name, labels in self.classes.items()
        }
        return {name: self.labels[name][int(np.argmax(each))] for name, each in sums.items()}


def read_classifier(path: str | Path) -> Classifier:
    """A classifier from a YAML or JSON file: `classifier` is its class, or "module:Class"; all else its settings.

    Raises BadInput.
    """
    data = read_data(Path(path).expanduser())
    if not isinstance(data, Mapping) or not isinstance(data.get("classifier"), str):
        raise BadInput(f"{path} names no classifier; write `classifier: ZeroShot` and its settings below")
    given = {str(name): value for name, value in data.items() if name != "classifier"}
    name = str(data["classifier"])
    known = {
        kind.__name__: f"{kind.__module__}:{kind.__name__}" for kind in (MenagerieJudge, ZeroShot, ImageClassifier)
    }
    if ":" not in name and name not in known:
        raise BadInput(f"there is no classifier {name!r}{nearest(name, [*known, 'package.module:Class'])}")
    return as_classifier(build_scorer(Method(method=known.get(name, name), **given)))


def as_classifier(scorer: Any) -> Classifier:
    """The same, if it is one. Raises BadInput."""
    if not isinstance(scorer, Classifier):
        raise BadInput(f"{type(scorer).__name__} is not a classifier; inherit from probe.bias.Classifier")
    return scorer


def _several(labels: Labels) -> None:
    few = [attribute for attribute, names in labels.items() if len(names) < 2]
    if few or not labels:
        raise BadInput(
            f"the attribute {few[0]!r} needs two labels at least" if few else "there is no attribute to read"
        )


def _menagerie() -> str:
    return f"menagerie:{import_module('probe.generator.weights').revision()}"


def _of_folder(source: str) -> str:
    if not Path(source).is_dir():
        raise BadModel(f"there is no folder {source!r}; give the one that save_pretrained wrote the classifier into")
    return f"{Path(source).name}:{import_module('probe.study.resolve').folder_digest(Path(source))}"


@cache
def _judge() -> Any:
    return import_module("probe.generator.weights").judge()


@cache
def _eyes(source: str) -> Any:
    return import_module("probe.concepts.eyes").open_eyes(source)


@cache
def _texts(source: str, phrases: tuple[str, ...]) -> np.ndarray:
    """[phrase, feature] of length 1."""
    return _eyes(source).texts(phrases)


@cache
def _model(source: str) -> tuple[Any, Any]:
    transformers, loaded = import_module("transformers"), import_module("probe.concepts.eyes").loaded
    model = loaded(transformers.AutoModelForImageClassification, source, use_safetensors=True)
    return model.eval(), loaded(transformers.AutoImageProcessor, source)
