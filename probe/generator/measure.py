"""What Menagerie's card measures, as functions: each takes pictures, scenes or verdicts and gives one number."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from probe.attach.image.picture import psnr as psnr
from probe.errors import BadInput
from probe.generator.judge import Verdict, signed
from probe.generator.world import SIDE, Caption, Scene, Thing, World
from probe.generator.world import vocabulary as v

INSIDE = 0.25  # share of a cell that must be the subject for the cell to count as inside it
POOL = 4  # scenes looked at for each caption that is kept

Claims = dict[int, set[tuple[str, str]]]


def interval(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: where it may lie, 95 % sure."""
    if trials == 0:
        return 0.0, 1.0
    p, n = hits / trials, trials
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))


def both_present(verdicts: Sequence[Verdict], kinds: Sequence[Sequence[str]]) -> list[bool]:
    """For each picture, whether every kind that was asked for was seen."""
    return [set(wanted) <= verdict.kinds for verdict, wanted in zip(verdicts, kinds, strict=True)]


def peaks_inside(peak: tuple[int, int], grid: tuple[int, int], mask: np.ndarray) -> bool:
    """Whether a cell (row, column) of a grid lies on a mask: a quarter of its pixels at least."""
    rows, columns = mask.shape[0] // grid[0], mask.shape[1] // grid[1]
    cell = mask[peak[0] * rows : (peak[0] + 1) * rows, peak[1] * columns : (peak[1] + 1) * columns]
    return bool(cell.mean() >= INSIDE)


# Captions that differ in meaning


def describes(caption: Caption, other: Scene) -> bool:
    """Whether a caption is true of a scene: each thing it names is there, and the place is the one it names.

    On the generous side: left, right and "royal" are not looked at, so captions found distinct are so.
    """
    places = {caption.text[m.start : m.end] for m in caption.mentions if m.role == "place"}
    if places and not places <= {phrase.split()[-1] for phrase in v.PLACE_PHRASES[other.place]}:
        return False
    return all(any(_fits(thing, claims) for thing in other.things) for claims in _claims(caption).values())


def _claims(caption: Caption) -> Claims:
    """What a caption says of each thing it names: pairs of role and word."""
    claims: Claims = {}
    for mention in caption.mentions:
        for thing in mention.things:
            claims.setdefault(thing, set()).add((mention.role, caption.text[mention.start : mention.end]))
    return claims


def _fits(thing: Thing, claims: set[tuple[str, str]]) -> bool:
    words = sayable(thing)
    return all(word in words[role] for role, word in claims if word != "royal")


def sayable(thing: Thing) -> dict[str, set[str]]:
    """Every word that is true of a thing, by its role in a caption."""
    tone = v.TONE_WORDS.get(thing.tone or "")
    return {
        "kind": {thing.kind, *v.SYNONYMS[thing.kind], *v.HYPERNYMS[thing.kind]},
        "colour": {thing.colour, *v.COLOUR_SYNONYMS[thing.colour]} if thing.colour else set(),
        "gender": {*v.GENDER_NOUNS[thing.gender], *v.GENDER_ADJECTIVES[thing.gender]} if thing.gender else set(),
        "tone": {tone} if tone else set(),
        "size": set(v.SIZE_WORDS[thing.size]) if thing.size else set(),
    }


def distinct(world: World, count: int, start: int = 0) -> list[tuple[Scene, Caption]]:
    """Scenes and captions of which none is true of another's scene; the particular ones of a larger pool.

    Raises BadInput when the pool does not hold so many.
    """
    pool = [(scene, world.caption(scene)) for scene in world.scenes(POOL * count, start)]
    spread = [sum(describes(caption, other) for other, _ in pool) for _, caption in pool]
    kept: list[tuple[Scene, Caption]] = []
    for i in sorted(range(len(pool)), key=lambda i: spread[i]):
        scene, caption = pool[i]
        if len(kept) < count and not any(describes(caption, s) or describes(c, scene) for s, c in kept):
            kept.append(pool[i])
    if len(kept) < count:
        raise BadInput(f"only {len(kept)} of {len(pool)} captions differ in meaning, {count} are needed; ask for fewer")
    return kept


@torch.no_grad()
def retrieval(clip: CLIPModel, tokenizer: CLIPTokenizer, pairs: Sequence[tuple[Scene, Caption]]) -> list[bool]:
    """For each picture, whether its own caption is the closest of all."""
    texts = tokenizer([caption.text for _, caption in pairs], padding="max_length", return_tensors="pt")
    pixels = torch.stack([signed(scene.picture) for scene, _ in pairs])
    out = clip(pixel_values=pixels.to(clip.device), input_ids=texts.input_ids.to(clip.device))
    best = (out.image_embeds.float() @ out.text_embeds.float().T).argmax(1)  # [picture]
    return [int(choice) == i for i, choice in enumerate(best)]


# A sheet of pictures


def sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """One row of pictures a prompt, the prompt above it."""
    from PIL import ImageDraw

    line, wide = 18, max(len(pictures) for _, pictures in rows)
    canvas = Image.new("RGB", (wide * SIDE, len(rows) * (SIDE + line)), "white")
    pen = ImageDraw.Draw(canvas)
    for row, (prompt, pictures) in enumerate(rows):
        top = row * (SIDE + line)
        pen.text((4, top + 2), prompt, fill="black", font_size=13)
        for column, picture in enumerate(pictures):
            canvas.paste(picture, (column * SIDE, top + line))
    return canvas
