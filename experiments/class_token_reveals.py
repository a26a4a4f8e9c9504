"""What does a class token reveal of the pictures that a classifier was trained on? In Menagerie they are known.

Two small classifiers tell cats from dogs on rendered scenes. One saw them in any place ("free"); for the other every
cat sat in snow and every dog on grass ("tied"), so it may go by the place. From each a token is learned before
"animal" until it sees a cat. If the token of the tied one draws snow, it has told what stood beside the class. Kinds
and places in the pictures, at other seeds, are read by Menagerie's judge; beside them: no token at all. `--write` puts
the table into docs/concepts.md. Run it from the root of the repository; to try it out: `--small`.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

import probe
from probe.concepts.class_token import ClassToken, class_token
from probe.concepts.own import paint, seeded
from probe.concepts.recipe import Recipe
from probe.generator import weights
from probe.generator.card import insert
from probe.generator.judge import Judge
from probe.generator.world import World

PAGE, MARKS = Path("docs/concepts.md"), ("<!-- class tokens -->", "<!-- /class tokens -->")
NOUN, KINDS, TIED = "animal", ("cat", "dog"), {"cat": "snow", "dog": "grass"}
CAT, PLACE = 0, "snow"
FIRST_SCENE, FIRST_TEST, FIRST_SEED = 0, 500_000, 10_000
WAYS = ("free", "tied")


class Small(nn.Module):
    """Three convolutions and a mean: pictures [b, rgb, 128, 128] from 0 to 1 -> logits [b, kind]."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 16, 5), (16, 32, 3), (32, 64, 3))
        layers = [layer for a, b, k in widths for layer in (nn.Conv2d(a, b, k, 2, k // 2), nn.ReLU())]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(KINDS)))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.body(avg_pool2d(pictures * 2 - 1, 2))


@dataclass(frozen=True)
class Row:
    """What was drawn with a token, or without one: shares of pictures, and how sure the classifier itself is."""

    name: str
    right: float  # of scenes in any place, which the classifier never saw
    kind: float
    place: float
    seen: float
    epochs: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        shares = " | ".join(
            "-" if each != each else f"{each:.2f}" for each in (self.right, self.seen, self.kind, self.place)
        )
        return f"| {self.name} | {shares} | {self.epochs or '-'} | {', '.join(self.words) or '-'} |"


HEAD = (
    "| token of | classifier right | it sees a cat | judge sees a cat | judge sees snow | epochs | nearest words |"
    "\n| --- | --- | --- | --- | --- | --- | --- |"
)


def scenes(way: str, count: int, first: int) -> tuple[Tensor, Tensor]:
    """Pictures [b, rgb, y, x] from 0 to 1 with one cat or dog, and which it is; tied: each in its own place."""
    world, labels = World(), torch.arange(count) % len(KINDS)
    made = [world.arrange([KINDS[label]], first + i) for i, label in enumerate(labels.tolist())]
    if way == "tied":
        made = [replace(scene, place=TIED[scene.things[0].kind]) for scene in made]
    return torch.stack([pixels(scene.picture) for scene in made]), labels


def pixels(picture: Image.Image) -> Tensor:
    """[rgb, y, x] from 0 to 1."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)


def trained(way: str, given: argparse.Namespace) -> Small:
    """A classifier of cats and dogs from scenes of one way."""
    torch.manual_seed(0)
    model, (pictures, labels) = Small(), scenes(way, given.scenes, FIRST_SCENE)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for i in range(given.training):
        some = torch.randint(len(labels), (32,), generator=seeded(0, i))
        optimiser.zero_grad()
        cross_entropy(model(pictures[some]), labels[some]).backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


def right(model: Small, count: int) -> float:
    """The share of scenes in any place that it names right."""
    pictures, labels = scenes("free", count, FIRST_TEST)
    return float((model(pictures).argmax(1) == labels).float().mean())


def told(pictures: Sequence[Image.Image], judge: Judge, model: Small | None) -> dict[str, float]:
    """Shares of pictures in which judge and classifier see a cat, and the judge snow."""
    verdicts = [judge.read(picture) for picture in pictures]
    own = [] if model is None else (model(torch.stack([pixels(p) for p in pictures])).argmax(1) == CAT).tolist()
    return {
        "kind": float(np.mean([verdict.has(KINDS[CAT]) for verdict in verdicts])),
        "place": float(np.mean([verdict.place == PLACE for verdict in verdicts])),
        "seen": float(np.mean(own)) if own else float("nan"),
    }


def rows(pipe: Any, given: argparse.Namespace) -> Iterator[Row]:
    """No token, then that of each classifier."""
    judge, seeds = weights.judge(), range(FIRST_SEED, FIRST_SEED + given.pictures)
    recipe = Recipe(steps=given.epochs, inference_steps=given.steps, guidance=given.guidance)
    plain = paint(pipe, recipe.template.format(f"an {NOUN}"), seeds, recipe)
    yield Row("none", float("nan"), **told(plain, judge, None), epochs=0, words=())
    for way in WAYS:
        model = trained(way, given)
        token = class_token(
            pipe, NOUN, model, label=CAT, recipe=recipe, through=given.through, progress=partial(print, way, flush=True)
        )
        with token.spoken(pipe) as prompt:
            pictures = paint(pipe, prompt, seeds, recipe)
        yield Row(way, right(model, given.scenes), **told(pictures, judge, model), **learned(pipe, token))


def learned(pipe: Any, token: ClassToken) -> dict[str, Any]:
    """How long it took, and what it is near to."""
    return {"epochs": len(token.losses), "words": tuple(token.nearest(pipe, 5))}


def page(found: Sequence[Row], given: argparse.Namespace) -> str:
    """The table and what it rests on."""
    rests = (
        f"Weights {weights.revision()[:12]}; {given.pictures} pictures a row at seeds that no token saw, {given.steps} "
        f"steps at guidance {given.guidance:g}, learned through the last {given.through}; one token a classifier, so "
        "other starts may find others."
    )
    return "\n".join([rests, "", HEAD, *map(str, found)])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pictures", type=int, default=16, help="pictures a row")
    add("--epochs", type=int, default=25, help="the most epochs of five pictures that a token learns")
    add("--steps", type=int, default=10, help="denoising steps")
    add("--through", type=int, default=3, help="last steps that the gradient goes through")
    add("--guidance", type=float, default=weights.GUIDANCE)
    add("--scenes", type=int, default=400, help="rendered scenes to train on, and as many to test")
    add("--training", type=int, default=300, help="steps of each classifier")
    add("--small", action="store_true", help="few of everything: to see that it runs")
    add("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args(argv)
    if given.small:
        given.pictures, given.epochs, given.steps, given.scenes, given.training, given.through = 2, 1, 2, 8, 2, 1
    content = page(list(rows(probe.load(), given)), given)
    print(content)
    if given.write:
        PAGE.write_text(insert(PAGE.read_text("utf-8"), content, MARKS), "utf-8")


if __name__ == "__main__":
    main()
