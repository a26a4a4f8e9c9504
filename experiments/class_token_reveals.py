"""What does a class token reveal of the pictures that a classifier was trained on? In Menagerie they are known.

Two small classifiers tell cats from dogs on rendered scenes. One saw them in any place ("free"); for the other every
cat sat in snow and every dog on grass ("tied"), so it may go by the place. From each a token is learned before
"animal" until it sees a cat. If the token of the tied one draws snow, it has told what stood beside the class. Both
classifiers are tested on new scenes like those they saw, and on scenes in any place: only what does well there and
badly here goes by the place. Kinds and places in the pictures, at other seeds, are read by Menagerie's judge; beside
them: no token at all. `--write` puts the table, and what it says, into docs/concepts.md. Run it from the root of the
repository; to try it out: `--small`, whose numbers mean nothing.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
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
from experiments import kept
from probe.concepts.class_token import ClassToken, class_token
from probe.concepts.own import paint, seeded
from probe.concepts.recipe import Recipe
from probe.generator import weights
from probe.generator.card import insert
from probe.generator.judge import Judge
from probe.generator.names import GUIDANCE
from probe.generator.world import World

PAGE, MARKS = Path("docs/concepts.md"), ("<!-- class tokens -->", "<!-- /class tokens -->")
NOUN, KINDS, TIED = "animal", ("cat", "dog"), {"cat": "snow", "dog": "grass"}
CAT, PLACE = 0, "snow"
FIRST_SCENE, FIRST_TEST, FIRST_SEED = 0, 500_000, 10_000
WAYS = ("free", "tied")
SURE, GAP = 0.8, 0.2  # shares of right answers: of who has learned, and by how much fewer if it goes by the place


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
class Learned:
    """A classifier's shares of right answers, on new scenes of its own way and in any place, and its token."""

    own: float
    free: float
    epochs: int
    fell: float  # the share of the first epoch's loss that the best one took away
    words: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What was drawn with a token, or without one: shares of pictures, and how sure the classifier itself is."""

    name: str
    kind: float
    place: float
    seen: float = float("nan")
    learned: Learned | None = None

    def __str__(self) -> str:
        of = self.learned or Learned(float("nan"), float("nan"), 0, float("nan"), ())
        shares = " | ".join(map(_share, (of.own, of.free, self.seen, self.kind, self.place)))
        return f"| {self.name} | {shares} | {of.epochs or '-'} | {_share(of.fell)} | {', '.join(of.words) or '-'} |"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


HEAD = (
    "| token of | right on its own scenes | right in any place | it sees a cat | judge sees a cat | judge sees snow "
    "| epochs | loss fell by | nearest words |\n| --- |" + " --- |" * 8
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


def right(model: Small, way: str, count: int) -> float:
    """The share of scenes of one way, which it never saw, that it names right."""
    pictures, labels = scenes(way, count, FIRST_TEST)
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
    yield Row("none", **told(plain, judge, None))
    for way in WAYS:
        model = trained(way, given)
        token = class_token(
            pipe, NOUN, model, label=CAT, recipe=recipe, through=given.through, progress=partial(print, way, flush=True)
        )
        with token.spoken(pipe) as prompt:
            pictures = paint(pipe, prompt, seeds, recipe)
        tested = [right(model, each, given.scenes) for each in (way, "free")]
        yield Row(way, **told(pictures, judge, model), learned=Learned(*tested, **spoken(pipe, token)))


def spoken(pipe: Any, token: ClassToken) -> dict[str, Any]:
    """How long a token took to learn, what came of it, and what it is near to."""
    fell = 1 - min(token.losses) / token.losses[0]
    return {"epochs": len(token.losses), "fell": fell, "words": tuple(token.nearest(pipe, 5))}


def page(found: Sequence[Row], given: argparse.Namespace) -> str:
    """What it rests on, the table, and what it says."""
    rests = (
        f"Weights {weights.revision()[:12]}; {given.pictures} pictures a row at seeds that no token saw, {given.steps} "
        f"steps at guidance {given.guidance:g}, learned through the last {given.through}; one token a classifier, so "
        "other starts may find others."
    )
    return "\n".join([rests, "", HEAD, *map(str, found), "", answer({row.name: row for row in found}, given.pictures)])


def answer(rows: Mapping[str, Row], pictures: int) -> str:
    """What the tied classifier goes by, and whether its token told of it, in words."""
    tied = rows["tied"].learned
    if tied is None or tied.own < SURE:
        return f"The tied classifier is right on less than {SURE:.0%} of its own scenes: it learned too little to tell."
    by = "goes by the place" if tied.own - tied.free >= GAP else "does not go by the place alone"
    held = {name: round(row.place * pictures) for name, row in rows.items()}
    others = max(held["none"], held["free"])
    verdict = "told of it" if held["tied"] > others else "did not tell of it"
    return (
        f"The tied classifier {by}: it is right on {tied.own:.0%} of scenes like its own and on {tied.free:.0%} where "
        f"places are free. Its token {verdict}: snow is in {held['tied']} of {pictures} pictures, in {held['none']} "
        f"without a token and in {held['free']} with the free one's. Learning took {tied.fell:.1%} off its loss in "
        f"{tied.epochs} epochs."
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pictures", type=int, default=16, help="pictures a row")
    add("--epochs", type=int, default=25, help="the most epochs of five pictures that a token learns")
    add("--steps", type=int, default=10, help="denoising steps")
    add("--through", type=int, default=3, help="last steps that the gradient goes through")
    add("--guidance", type=float, default=GUIDANCE)
    add("--scenes", type=int, default=400, help="rendered scenes to train on, and as many to test")
    add("--training", type=int, default=300, help="steps of each classifier")
    add("--small", action="store_true", help="few of everything: to see that it runs")
    add("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args(argv)
    kept.refuse_rehearsal(given)
    if given.small:
        given.pictures, given.epochs, given.steps, given.scenes, given.training, given.through = 2, 1, 2, 8, 2, 1
    content = page(list(rows(probe.load(), given)), given)
    print(content)
    if given.write:
        PAGE.write_text(insert(PAGE.read_text("utf-8"), content, MARKS), "utf-8")


if __name__ == "__main__":
    main()
