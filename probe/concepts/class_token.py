"""Discriminative class tokens: what a frozen classifier wants to see, as a word of its own in the prompt."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import unwrap
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from probe.attach.borrow import around
from probe.attach.model.families import denoiser
from probe.attach.model.name import model_of
from probe.concepts.own import Tick, options, quiet
from probe.concepts.pseudo_token import Encoder, Gap, check_expressible, encoders, filled, gap, own_words
from probe.concepts.recipe import Recipe
from probe.concepts.reconstruction import borrowed
from probe.concepts.vocabulary import BEFORE, rows, whole_words
from probe.errors import BadInput

RATE, DECAY, CLIP = 0.09, 1e-2, 1.0  # RATE in root mean squares of the embeddings: 1.25e-3 of Stable Diffusion's 0.014
ENOUGH, PATIENCE = 0.7, 15  # accuracy of an epoch; epochs without a new best loss
FIRST_SEED, PER_EPOCH = 35, 5

Classifier = Callable[[Tensor], Tensor]  # pictures [b, rgb, y, x] from 0 to 1 -> logits [b, class], with a graph


def classifier(model: Any, processor: Any) -> Classifier:
    """A transformers image classifier, with its image processor, as `class_token` asks for one.

    Pictures are brought to the processor's size, bicubic, and normalised as it does; nothing is cut off at their sides.
    Raises BadInput for a processor that names no size.
    """
    size = dict(getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {})
    sides = [int(size.get(name, size.get("shortest_edge", 0))) for name in ("height", "width")]
    if not all(sides):
        raise BadInput(f"{type(processor).__name__} has no image size, only {size}; give the model's own processor")
    told = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0], [1.0])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in told)

    def classify(pictures: Tensor) -> Tensor:
        seen = interpolate(pictures.float(), sides, mode="bicubic", antialias=True).clamp(0, 1)
        return model(pixel_values=((seen - mean.to(seen)) / std.to(seen)).to(model.dtype)).logits

    return classify


@dataclass(frozen=True, eq=False)
class ClassToken:
    """A learned vector that stands before a noun: `vectors` [1, channel] by encoder. One loss and accuracy an epoch.

    It shows what the classifier rewards, which may be what stood beside the class in its training pictures.
    """

    prompt: str
    label: int
    hole: Gap
    vectors: Mapping[str, Tensor]
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def spoken(self, pipe: Any) -> Iterator[str]:
        """A prompt with the token before the noun, while the block runs."""
        with filled(self.hole, encoders(pipe), self.vectors):
            yield self.hole.text

    def nearest(self, pipe: Any, count: int = 10) -> dict[str, float]:
        """The words whose embeddings have the largest cosine with the token in the first encoder."""
        encoder = encoders(pipe)[0]
        words = whole_words(encoder)
        cosines = torch.cosine_similarity(rows(encoder, list(words.values())), self.vectors[encoder.name])
        order = cosines.argsort(descending=True)[:count].tolist()
        return {list(words)[i]: float(cosines[i]) for i in order}


def class_token(
    pipe: Any,
    prompt: str,
    classify: Classifier,
    *,
    label: int,
    recipe: Recipe | None = None,
    through: int = 1,
    progress: Tick | None = None,
) -> ClassToken:
    """Learn a token before a noun, so that a frozen classifier sees its class (Schwartz et al., ICCV 2023).

    Cross-entropy of the finished picture, with a gradient through the last `through` steps and the decoder; AdamW on
    the token alone, so that no other row decays, at the published rate for embeddings of Stable Diffusion's size and in
    proportion for others; the same PER_EPOCH noises in each epoch. `recipe.steps` is the largest
    number of epochs; it ends sooner at an accuracy above 0.7, or 15 epochs after the best loss, whose token is kept.
    Raises BadInput for a label that the classifier does not have, and for no step to go through.
    """
    if through < 1:
        raise BadInput(f"through is {through}; give how many of the last steps the gradient goes through, 1 or more")
    recipe, heard = recipe or Recipe(steps=50), encoders(pipe)
    noun = " ".join(own_words(check_expressible(prompt, heard)))
    hole = gap(f"a {noun}", _before(noun, recipe.template), heard)
    learner = _Learner(pipe, heard, hole, recipe, classify, label, through)
    with borrowed(pipe, heard), quiet(pipe):
        for epoch in range(recipe.steps):
            learner.epoch()
            if progress:
                progress(epoch + 1, recipe.steps, learner.losses[-1])
            if learner.accuracies[-1] > ENOUGH or epoch - int(np.argmin(learner.losses)) >= PATIENCE:
                break
    told = {"model": model_of(pipe), "through": through, **recipe.model_dump()}
    return ClassToken(noun, label, hole, learner.best, tuple(learner.losses), tuple(learner.accuracies), told)


def _before(noun: str, template: str) -> str:
    """The template for a token before a noun."""
    return template.format(f"{{}} {noun}")


@dataclass
class _Learner:
    """The token while it is learned, and the best so far."""

    pipe: Any
    heard: tuple[Encoder, ...]
    hole: Gap
    recipe: Recipe
    classify: Classifier
    label: int
    through: int
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vectors = {e.name: rows(e, e.ids(BEFORE)[:1]).requires_grad_() for e in self.heard}
        self.best = {name: each.detach().clone() for name, each in self.vectors.items()}
        rates = [{"params": [self.vectors[e.name]], "lr": RATE * _size(e)} for e in self.heard]
        self.optimiser = torch.optim.AdamW(rates, weight_decay=DECAY)

    def epoch(self) -> None:
        """Pictures of all noises, one after the other, then one step of the token."""
        before = {name: each.detach().clone() for name, each in self.vectors.items()}
        self.optimiser.zero_grad()
        told = [self._backward(FIRST_SEED + i) for i in range(PER_EPOCH)]
        loss = float(np.mean([each[0] for each in told]))
        if loss < min(self.losses, default=float("inf")):
            self.best = before  # the token that this loss belongs to
        self.losses.append(loss)
        self.accuracies.append(float(np.mean([each[1] for each in told])))
        torch.nn.utils.clip_grad_norm_(list(self.vectors.values()), CLIP)
        self.optimiser.step()

    def _backward(self, seed: int) -> tuple[float, bool]:
        with filled(self.hole, self.heard, self.vectors):
            picture = finished(self.pipe, self.hole.text, seed, self.recipe, through=self.through)
        logits = self.classify(picture).float()
        if not 0 <= self.label < logits.shape[-1]:
            raise BadInput(f"label {self.label} is not one of the classifier's {logits.shape[-1]}; labels count from 0")
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([self.label], device=logits.device))
        (loss / PER_EPOCH).backward(inputs=list(self.vectors.values()))  # the classifier's weights get no gradient
        return float(loss.detach()), int(logits[0].argmax()) == self.label


def _size(encoder: Encoder) -> float:
    """The root mean square of an encoder's embeddings."""
    weights = encoder.table.weight.detach()
    return float(torch.linalg.vector_norm(weights, dtype=torch.float32)) / weights.numel() ** 0.5


def finished(pipe: Any, prompt: str, seed: int, recipe: Recipe, *, through: int) -> Tensor:
    """[1, rgb, y, x] from 0 to 1: the pipeline's own picture, with a graph through its last `through` steps."""
    _, module = denoiser(pipe)
    done = [0]

    def count(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        done[0] = step + 1
        return tensors

    def gate(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.set_grad_enabled(done[0] >= pipe.num_timesteps - through):
            return original(*args, **kwargs)

    noise = torch.Generator("cpu").manual_seed(seed)
    with around(module, "forward", gate):
        call = unwrap(type(pipe).__call__)
        more = {"generator": noise, "output_type": "pt", "callback_on_step_end": count}
        return call(pipe, prompt=prompt, **more, **options(recipe)).images
