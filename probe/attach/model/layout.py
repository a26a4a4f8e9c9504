"""The plane that the denoiser works on: read from its arguments, never from the size that the caller asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from probe.attach.model.families import Family
from probe.attach.model.schedule import once
from probe.errors import RecordingError, UnknownFamily

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plane:
    """Cells of the denoiser's input. `tokens` counts those of further pictures, or of what fills it up, too."""

    frames: int
    height: int
    width: int
    tokens: int

    @property
    def cells(self) -> int:
        return self.frames * self.height * self.width


def plane(given: Arguments, sample: Tensor | Sequence[Tensor], family: Family) -> Plane:
    """The plane of one call. Raises UnknownFamily where packed tokens come without their places."""
    shape = tuple(_ordered(sample, family).shape[1:]) if isinstance(sample, Tensor) else tuple(sample[0].shape)
    if len(shape) == 2:
        return _packed(given, shape[0])
    frames = 1 if len(shape) == 3 else ceil(shape[0 if family.frames_first else 1] / family.patch_frames)
    height, width = (ceil(side / family.patch) for side in shape[-2:])
    filled = family.canvas if shape[-2] != shape[-1] else 0
    return Plane(frames, height, width, filled or frames * height * width)


def _ordered(x: Tensor, family: Family) -> Tensor:
    """Films with their channels behind the batch."""
    return x.movedim(-1, 1) if family.channels_last and x.ndim == 5 else x


def _packed(given: Arguments, tokens: int) -> Plane:
    """From the places that come with packed tokens: ids, shapes, or plain numbers."""
    ids, shapes = given.get("img_ids"), given.get("img_shapes")
    if isinstance(ids, Tensor):
        return once(ids, tokens, lambda: _by_ids(ids[0] if ids.ndim == 3 else ids, tokens))
    if shapes:
        first = shapes[0][0] if isinstance(shapes[0], list) else shapes[0]
        frames, height, width = (int(side) for side in first)
        return Plane(frames, height, width, tokens)
    frames, height, width = (given.get(name) for name in ("num_frames", "height", "width"))
    if isinstance(frames, int) and isinstance(height, int) and isinstance(width, int):
        return Plane(frames, height, width, tokens)
    placed = _among_ids(given.get("position_ids"), tokens) or _by_coordinates(given.get("video_coords"), tokens)
    if placed is not None:
        return placed
    raise UnknownFamily(
        f"the denoiser was given {tokens} packed tokens without their places, or with those of further pictures among "
        f"them (it has {', '.join(sorted(given))}; expected img_ids, img_shapes, position_ids, video_coords of one "
        "film, or num_frames, height and width). The moments of a sound have no rows and columns: of these nothing is "
        "recorded. Of pictures, let a subclass of the denoiser take their num_frames, height and width, in cells"
    )


def _by_coordinates(places: Any, tokens: int) -> Plane | None:
    """The plane of tokens at places [b, (frame, row, column), n] in pixels, where they are one film in its order."""
    if not isinstance(places, Tensor) or places.ndim != 3 or places.shape[1:] != (3, tokens):
        return None
    return once(places, tokens, lambda: _film(places, tokens))


def _film(places: Tensor, tokens: int) -> Plane | None:
    axes = [axis.unique() for axis in places[0]]
    film = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    frames, height, width = map(len, axes)
    return Plane(frames, height, width, tokens) if torch.equal(film, places[0]) else None


def _among_ids(ids: Any, tokens: int) -> Plane | None:
    """The plane of the picture's ids behind or before those of the text: the ones that fill a grid."""
    if not isinstance(ids, Tensor) or ids.ndim not in (2, 3) or ids.shape[-1] != 3 or ids.shape[-2] < tokens:
        return None
    return once(ids, tokens, lambda: _grid(ids[0] if ids.ndim == 3 else ids, tokens))


def _grid(ids: Tensor, tokens: int) -> Plane | None:
    planes = (_by_ids(part, tokens) for part in (ids[-tokens:], ids[:tokens]))
    return next((found for found in planes if found.cells == tokens), None)


def _by_ids(ids: Tensor, tokens: int) -> Plane:
    """ids [n, (frame or picture, row, column, ...)]: those that share the first token's picture are the picture's."""
    own = ids[ids[:, 0] == ids[0, 0]]
    rows, columns = (int(own[:, i].max() - own[:, i].min()) + 1 for i in (1, 2))
    return Plane(1, rows, columns, tokens)


def check_plane(x: Tensor | Sequence[Tensor], where: Plane | None) -> None:
    """Raises RecordingError where more tokens are stepped than those of the one picture that the maps are of."""
    if where is not None and isinstance(x, Tensor) and x.ndim == 3 and x.shape[1] > where.cells:
        raise RecordingError(
            f"the pipeline steps {x.shape[1]} tokens, and the picture that was found among them has {where.height} x "
            f"{where.width} cells: it draws several pictures or layers at once, of which one alone would be recorded, "
            "perhaps one that it throws away. Record a pipeline of the same model that draws one picture"
        )


def unpacked(x: Tensor | Sequence[Tensor], where: Plane, family: Family) -> Tensor:
    """Latents or predictions as planes [b, c, y, x], or [b, c, frame, y, x] for films.

    Some pipelines show the scheduler the frames of a film as rows: [b * frame, c, y, x].
    """
    value = _ordered(x, family) if isinstance(x, Tensor) else torch.stack(list(x))
    if value.ndim == 3:
        p = family.packed
        cells = value[:, : where.cells].unflatten(1, (where.frames, where.height, where.width))
        cells = cells.unflatten(-1, (-1, p, p))  # [b, f, h, w, c, p, p]
        value = cells.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
    elif value.ndim == 4 and where.frames > 1:
        value = value.unflatten(0, (-1, where.frames * family.patch_frames)).transpose(1, 2)
    elif value.ndim == 5 and family.frames_first:
        value = value.transpose(1, 2)
    return value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value


def packed(x: Tensor, family: Family) -> Tensor:
    """Latents of pictures [b, c, y, x] as the pipeline holds them: the inverse of `unpacked`."""
    if family.packed == 1:
        return x
    cells = x.unflatten(3, (-1, family.packed)).unflatten(2, (-1, family.packed))  # [b, c, h, p, w, p]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
