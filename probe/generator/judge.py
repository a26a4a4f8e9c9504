"""Menagerie's judge: which subjects a picture shows, where, in which colour, and which people, in which place.

It is right on pictures of Menagerie's world, rendered or generated, and on no others. Its limits: two things of
one kind that touch (closer than 2 x BRIDGE pixels) are read as one; a thing of fewer than LEAST pixels is not
seen; a fusion of two kinds is read as whichever kind holds its pixels, or as both when each holds enough; the
place is always one of six.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn

from probe.errors import DamagedFile
from probe.generator.world import SIDE
from probe.generator.world import vocabulary as v

BRIDGE = 2  # pixels: parts of one kind at most twice as far apart are one thing (lenses, a body behind a bow)
LEAST = {"worn": 40, "other": 160}  # pixels of the smallest thing that counts: accessories, and all other kinds
COLOURS = (*v.COLOURS, "natural")
BATCH = 16
DOUBT = 0.8  # mean probability below which a part that lies along a larger thing is a piece of that thing
TOUCHING = 0.5  # share of the smaller outline from which on two things are one
WINDOW, STRIDE = 16, 4  # pixels: the parts of a picture in which it is asked how sure a kind is, and their distance

Logits = dict[str, Tensor]


class Network(nn.Module):
    """A small U-Net: kinds at full resolution, traits at half of it, the place for the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 32, 5, stride=2, padding=2)
        self.fine = _Block(32, 32)
        self.down = nn.ModuleList([_Block(32, 64, 2), _Block(64, 128, 2), _Block(128, 128, 2)])
        self.deep = nn.ModuleList([_Block(64, 64), _Block(128, 128), _Block(128, 128)])
        self.up = nn.ModuleList([_Up(128, 128), _Up(128, 64), _Up(64, 32)])
        self.last = nn.Sequential(_Block(32, 64), nn.GroupNorm(8, 64), nn.SiLU())
        self.pool = nn.Sequential(nn.GroupNorm(8, 128), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.conv_out_kind = nn.Conv2d(64, 4 * (1 + len(v.KINDS)), 1)
        self.conv_out_traits = nn.Conv2d(64, len(COLOURS) + len(v.GENDERS) + len(v.TONES), 1)
        self.logit_place = nn.Linear(128, len(v.PLACES))

    def forward(self, x: Tensor) -> Logits:
        """[b, 3, 128, 128] in [-1, 1] -> kind [b, 35, 128, 128], colour, gender, tone [b, c, 64, 64], place [b, 6]."""
        levels = [self.fine(self.conv_in(x))]
        for down, deep in zip(self.down, self.deep, strict=True):
            levels.append(deep(down(levels[-1])))
        y = levels.pop()
        place = self.logit_place(self.pool(y))
        for up in self.up:
            y = up(y, levels.pop())
        y = self.last(y)
        colour, gender, tone = self.conv_out_traits(y).split((len(COLOURS), len(v.GENDERS), len(v.TONES)), 1)
        kind = F.pixel_shuffle(self.conv_out_kind(y), 2)
        return {"kind": kind, "colour": colour, "gender": gender, "tone": tone, "place": place}


class _Block(nn.Module):
    """Normalise, activate, convolve; residual where the shape stays."""

    def __init__(self, taken: int, given: int, stride: int = 1):
        super().__init__()
        self.norm = nn.GroupNorm(8, taken)
        self.conv = nn.Conv2d(taken, given, 3, stride, padding=1)
        self.same = taken == given and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.silu(self.norm(x)))
        return x + y if self.same else y


class _Up(nn.Module):
    """To the size of the level above: narrow, enlarge, add the level, convolve."""

    def __init__(self, taken: int, given: int):
        super().__init__()
        self.narrow = nn.Conv2d(taken, given, 1)
        self.block = _Block(given, given)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.block(F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest") + level)


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing that was seen. `colour` is None when natural, and for people; traits are None where none apply."""

    kind: str
    mask: np.ndarray  # [y, x] bool, 128 x 128
    colour: str | None = None
    gender: str | None = None
    tone: str | None = None
    confidence: float = 1.0  # mean probability of the kind over the mask

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are past the end."""
        ys, xs = np.nonzero(self.mask)
        return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the judge saw in one picture, largest thing first.

    `chances`: of each kind the largest mean probability over a window of the picture, for pictures that are not clear.
    """

    instances: tuple[Instance, ...]
    place: str
    chances: Mapping[str, float] = field(default_factory=dict)

    @property
    def kinds(self) -> frozenset[str]:
        """Every kind that was seen."""
        return frozenset(instance.kind for instance in self.instances)

    def has(self, kind: str, colour: str | None = None) -> bool:
        """Whether a thing of this kind (and of this colour, when given) was seen."""
        return bool(self.find(kind, colour))

    def find(self, kind: str, colour: str | None = None) -> tuple[Instance, ...]:
        """The things of a kind (and a colour), largest first."""
        return tuple(i for i in self.instances if i.kind == kind and colour in (None, i.colour))

    def mask(self, word: str) -> np.ndarray:
        """[y, x] bool: the pixels that a word is about, by its kinds, genders or colours; empty when there are none."""
        seen = [i.mask for i in self.instances if i.kind in meaning(word) or word in (i.gender, i.colour)]
        return np.logical_or.reduce([np.zeros((SIDE, SIDE), bool), *seen])

    def likely(self, word: str) -> float | None:
        """How surely the picture shows what a noun names, 0 to 1, even where too little is seen to count as a thing.

        None for words that name no kind, such as colours and genders.
        """
        known = [self.chances[kind] for kind in meaning(word) if kind in self.chances]
        return max(known, default=None)

    def knows(self, word: str) -> bool:
        """Whether a word is of this world at all, so that its absence says something."""
        return bool(meaning(word)) or word in (*v.COLOURS, *v.GENDERS)

    def fused(self, word: str, other: str) -> bool | None:
        """Whether the largest things that two words name share more than half of the smaller one's outline.

        What is worn (bow, crown, glasses) lies on another thing as it should. None: not both are there to be fused.
        """
        kinds = [meaning(each) - set(v.ACCESSORIES) for each in (word, other)]
        found = [next((one for one in self.instances if one.kind in wanted), None) for wanted in kinds]
        things = sorted((one for one in found if one is not None), key=lambda one: one.area)
        return touching(*things) > TOUCHING if len(things) == 2 else None


def touching(small: Instance, large: Instance) -> float:
    """The share of a thing's outline (its cells next to what is not it) that lies next to another thing."""
    beside = _neighbours(~small.mask) & small.mask
    return float((beside & _neighbours(large.mask)).sum() / max(int(beside.sum()), 1))


def _neighbours(mask: np.ndarray) -> np.ndarray:
    """[y, x] bool: the cells above, below, left and right of a mask's."""
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def meaning(word: str) -> frozenset[str]:
    """The kinds that a noun may name: itself, by synonym ("kitten": cat) or by hypernym ("animal": all animals)."""
    tables = (v.SYNONYMS, v.HYPERNYMS)
    named = {kind for table in tables for kind, words in table.items() if word in words}
    return frozenset(named | ({word} & set(v.KINDS)))


class Judge:
    """Reads pictures. Frozen; the same picture always gets the same verdict."""

    def __init__(self, network: Network, device: str = "cpu"):
        self.network = network.to(device).float().eval().requires_grad_(False)
        self.device = device

    def read(self, picture: Image.Image) -> Verdict:
        """What one picture shows."""
        return self.read_all([picture])[0]

    def read_all(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        """What each picture shows; any size is first resized to 128 x 128."""
        return [verdict for i in range(0, len(pictures), BATCH) for verdict in self._batch(pictures[i : i + BATCH])]

    def _batch(self, pictures: Sequence[Image.Image]) -> list[Verdict]:
        with torch.no_grad():
            logits = self.network(torch.stack([signed(picture) for picture in pictures]).to(self.device))
        return [reading({name: value[i].cpu() for name, value in logits.items()}) for i in range(len(pictures))]


def load(path: Path, device: str = "cpu") -> Judge:
    """The judge whose weights lie in the safetensors file `path`."""
    network, stored = Network(), load_file(path)
    if stored.keys() != network.state_dict().keys():
        raise DamagedFile(f"{path} holds other weights than the judge's; restore it from the package")
    network.load_state_dict(stored)
    return Judge(network, device)


def signed(picture: Image.Image) -> Tensor:
    """[3, 128, 128] in [-1, 1]."""
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1).float().div_(127.5).sub_(1)


def reading(logits: Logits) -> Verdict:
    """The verdict on one picture, from its logits (without the batch)."""
    likely = logits["kind"].float().softmax(0)  # [kind, y, x]
    chances = F.avg_pool2d(likely, WINDOW, STRIDE).amax((1, 2)).tolist()
    shares = likely.numpy()
    winner = shares.argmax(0)
    found = [
        Instance(v.KINDS[number - 1], mask, confidence=float(shares[number][mask].mean()))
        for number in np.unique(winner[winner > 0])
        for mask in _parts(winner == number, v.KINDS[number - 1])
    ]
    seen = [replace(thing, **_traits(thing, logits)) for thing in _whole(found)]
    place = v.PLACES[int(logits["place"].argmax())]
    return Verdict(tuple(seen), place, dict(zip(v.KINDS, chances[1:], strict=True)))


def _whole(parts: Sequence[Instance]) -> list[Instance]:
    """Things, largest first. A doubtful part along a larger thing is a piece of it, whatever it looks like."""
    things: list[Instance] = []
    for part in sorted(parts, key=lambda part: -part.area):
        along = [touching(part, thing) if _one_body(part, thing) else 0.0 for thing in things]
        if part.confidence < DOUBT and max(along, default=0.0) > TOUCHING:
            nearest = int(np.argmax(along))
            things[nearest] = replace(things[nearest], mask=things[nearest].mask | part.mask)
        else:
            things.append(part)
    return sorted(things, key=lambda thing: -thing.area)


def _one_body(part: Instance, thing: Instance) -> bool:
    """Whether one may be a piece of the other: what is worn lies on another thing as it should."""
    return (part.kind in v.ACCESSORIES) == (thing.kind in v.ACCESSORIES)


def least(kind: str) -> int:
    """Pixels of the smallest thing of a kind that counts."""
    return LEAST["worn" if kind in v.ACCESSORIES else "other"]


def _parts(mask: np.ndarray, kind: str) -> list[np.ndarray]:
    """Connected parts that are large enough, [y, x] bool each; near parts are one."""
    grown = ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=BRIDGE)
    numbered, count = ndimage.label(grown, np.ones((3, 3), int))
    parts = [(numbered == i + 1) & mask for i in range(count)]
    return [part for part in parts if part.sum() >= least(kind)]


def _traits(thing: Instance, logits: Logits) -> dict[str, Any]:
    return (_person if thing.kind in v.PROFESSIONS else _coloured)(thing.mask, logits)


def _coloured(mask: np.ndarray, logits: Logits) -> dict[str, str | None]:
    colour = COLOURS[_vote(mask, logits["colour"])]
    return {"colour": None if colour == "natural" else colour}


def _person(mask: np.ndarray, logits: Logits) -> dict[str, str | None]:
    return {"gender": v.GENDERS[_vote(mask, logits["gender"])], "tone": v.TONES[_vote(mask, logits["tone"])]}


def _vote(mask: np.ndarray, logits: Tensor) -> int:
    """The class with the largest mean log-probability over a mask; logits are at half the mask's resolution."""
    weight = torch.from_numpy(mask.astype(np.float32)).view(1, SIDE, SIDE)
    weight = F.avg_pool2d(weight, SIDE // logits.shape[-1])
    return int((logits.float().log_softmax(0) * weight).sum((1, 2)).argmax())
