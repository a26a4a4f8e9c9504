"""Before, after, and the maps: twelve prompts whose subjects tend to go missing, by one method, as one sheet.

Each prompt takes the first seed of --seeds at which the judge misses a subject of the plain picture (the last one if
none is missed), so the gallery shows what there is to repair, not what is usual. `--write` puts the sheet into docs.
Run it from the root of the repository; to try it out: `--prompts 2 --seeds 0 --steps 4`.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt
from PIL import Image
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track

import probe
from experiments.menagerie_pictures import GUIDANCE
from probe.generator import weights
from probe.nurse.diagnosis import Diagnosis
from probe.study.nursing import nurse_for, prompt_methods
from probe.study.question import Seeds
from probe.trace import Trace

PROMPTS = (
    "a cat and a dog", "a bird and a bear", "a lion and a turtle", "an elephant and a frog",
    "a dog and a blue balloon", "a monkey and a red car", "a rabbit and a green chair", "a cat with a crown",
    "a yellow bowl and a red clock", "a purple suitcase and a white bench", "a black backpack and a pink apple",
    "an orange car and a blue bow",
)  # fmt: skip
COLUMNS, WIDE = 2, 900  # pixels of one case on the sheet
SHEET = Path("docs/images/nursing-gallery.png")


@dataclass(frozen=True)
class Room:
    """What draws, who looks, and what was asked for."""

    pipe: Any
    judge: Any
    given: argparse.Namespace

    def drawn(self, prompt: str, seed: int, *interventions: Any) -> tuple[Trace, Diagnosis]:
        """One run and its diagnosis."""
        with probe.record(self.pipe, interventions=interventions) as recording:
            rng = torch.Generator().manual_seed(seed)
            self.pipe(prompt, num_inference_steps=self.given.steps, guidance_scale=GUIDANCE, generator=rng)
        return recording.trace, probe.diagnose(recording.trace, judge=self.judge)

    def neglected(self, prompt: str) -> tuple[int, Trace, Diagnosis]:
        """The first seed at which a subject is missed, else the last; its plain run."""
        seed, *others = TypeAdapter(Seeds).validate_python(self.given.seeds)
        plain, before = self.drawn(prompt, seed)
        while others and not before.neglected:
            seed = others.pop(0)
            plain, before = self.drawn(prompt, seed)
        return seed, plain, before


def case(room: Room, prompt: str) -> tuple[Image.Image, str]:
    """The figure of one prompt, and what became of its subjects."""
    seed, plain, before = room.neglected(prompt)
    nursed, after = room.drawn(prompt, seed, nurse_for(room.given.method, prompt))
    told = f"seed {seed}: {', '.join(before.neglected) or 'nothing'} missed before, "
    return figure(plain, nursed, after), told + f"{', '.join(after.neglected) or 'nothing'} missed after"


def figure(plain: Trace, nursed: Trace, after: Diagnosis) -> Image.Image:
    """Before and after with the maps of the subjects, as pixels."""
    stream = io.BytesIO()
    probe.show.before_after(plain, nursed, [f.subject for f in after.findings]).savefig(stream, format="png")
    found = Image.open(stream).convert("RGB")
    return found.resize((WIDE, round(found.height * WIDE / found.width)), Image.Resampling.LANCZOS)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=PositiveInt, default=len(PROMPTS), help="the first so many")
    parser.add_argument("--method", choices=prompt_methods(), default="Separate")
    parser.add_argument("--seeds", default="0-7", help="where neglect is looked for")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("out/nursing-gallery.png"), help="the sheet")
    parser.add_argument("--device", help="where it draws, e.g. cuda")
    parser.add_argument("--write", action="store_true", help=f"put it into {SHEET}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    room = Room(probe.load(device=given.device), weights.judge(), given)
    chosen = track(PROMPTS[: given.prompts], "drawing", console=Console(stderr=True), transient=True)
    cases = {prompt: case(room, prompt) for prompt in chosen}
    for prompt, (_, told) in cases.items():
        print(f"{prompt}: {told}")
    captions = [told for _, told in cases.values()]
    target = SHEET if given.write else given.out
    target.parent.mkdir(parents=True, exist_ok=True)
    probe.show.contact_sheet([picture for picture, _ in cases.values()], captions, columns=COLUMNS).save(target)


if __name__ == "__main__":
    main()
