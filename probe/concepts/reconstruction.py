"""What a pseudo-token is worth: the denoiser's answer with it in the prompt, and the reconstruction loss of that."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from inspect import signature, unwrap
from typing import Any

import torch
from torch import Tensor, nn

from probe.attach.borrow import by_name, here, lease
from probe.attach.change.gradient import without_weight_gradients
from probe.attach.given import SAMPLES
from probe.attach.model.families import denoiser
from probe.concepts.own import TIMES, Draw, Own, draw, first, quiet, size
from probe.concepts.pseudo_token import Encoder, Gap, Vectors, filled
from probe.concepts.recipe import Recipe
from probe.concepts.vocabulary import Vocabulary, nearest
from probe.errors import UnknownFamily

EMBEDDED = ("guidance_embeds", "time_cond_proj_dim")  # models that are told the guidance scale as a number


class _Heard(Exception):
    """The denoiser's arguments are known; the rest of the call is not needed."""


@dataclass(frozen=True)
class Bench:
    """A pipeline, the gap in its prompt, the words that may fill it, and the model's own pictures of the concept."""

    pipe: Any
    hole: Gap
    spoken: str  # the concept's own prompt
    encoders: tuple[Encoder, ...]
    words: Vocabulary
    origin: Mapping[str, Tensor]  # the mean embedding of the concept's own tokens, by encoder
    own: Own
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def denoiser(self) -> nn.Module:
        """The part that denoises."""
        return denoiser(self.pipe)[1]

    @property
    def closeness(self) -> Tensor:
        """[word]: the cosine of each word's embedding with the concept's own, 0 or more, on the CPU."""
        return torch.from_numpy(nearest(self.words, self.origin)).clamp(min=0)

    def draw(self, step: int, size: int, *, noisiest: float = 1.0) -> Draw:
        """The batch of a step."""
        return draw(self.own, (self.recipe.seed, step), size, noisiest=noisiest)

    def answer(self, drawn: Draw, vectors: Vectors | None) -> Tensor:
        """What the denoiser says of noised latents where the gap holds the vectors; None: the concept's own prompt.

        [b, ...], with a graph to the vectors. Each encoder's vectors are one for the whole batch, or one a row.
        """
        rows = len(drawn.x)
        if vectors is None:
            given = conditions(self.pipe, self.spoken, (1, rows), self.recipe)
        else:
            count = len(next(iter(vectors.values())))
            with filled(self.hole, self.encoders, vectors):
                given = conditions(self.pipe, self.hole.text, (count, rows // count), self.recipe)
        sample, time = first(given, SAMPLES), first(given, TIMES)
        if len(sample) != rows or sample.shape[1:] != drawn.x.shape[1:]:
            raise UnknownFamily(
                f"{type(self.pipe).__name__} hands its denoiser latents of {list(sample.shape)}, expected "
                f"{[rows, *drawn.x.shape[1:]]}: a concept can be learned where one row of the batch is one picture"
            )
        told = drawn.told.to(time) if torch.is_tensor(time) else drawn.told.to(sample.device)
        names = {id(sample): drawn.x.to(sample), id(time): told}
        output = self.denoiser(**{name: names.get(id(value), value) for name, value in given.items()})
        return output[0].float()[:, : drawn.x.shape[1]] if drawn.x.ndim > 3 else output[0].float()

    @torch.no_grad()
    def aimed(self, drawn: Draw) -> Draw:
        """The batch with the denoiser's answer to the concept's own prompt as what it should answer."""
        return replace(drawn, target=self.answer(drawn, None))

    def loss(self, drawn: Draw, vectors: Vectors) -> Tensor:
        """Mean squared error of the answer: L_rec, if the batch is not `aimed`."""
        return (self.answer(drawn, vectors) - drawn.target).square().mean()


def conditions(pipe: Any, prompt: str, count: tuple[int, int], recipe: Recipe) -> dict[str, Any]:
    """The arguments with which a pipeline calls its denoiser at its first step, with a graph to what the encoders gave.

    `count`: how often the prompt is encoded, and how many pictures each of these is for.
    The pipeline's own call runs, without the decorator that switches gradients off, and is left at the denoiser.
    """
    caught: dict[str, Any] = {}
    _, module = denoiser(pipe)

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.update(by_name(module.forward, args, kwargs))
        raise _Heard

    call = unwrap(type(pipe).__call__)
    known = signature(call).parameters
    embedded = any(module.config.get(name) for name in EMBEDDED)
    off = {} if embedded or "guidance_scale" not in known else {"guidance_scale": 1.0}
    rng = torch.Generator("cpu").manual_seed(0)
    many = {"num_images_per_prompt": count[1], "num_inference_steps": 1, "output_type": "latent", "generator": rng}
    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(here(catch), with_kwargs=True).remove)
        stack.enter_context(quiet(pipe))
        stack.enter_context(suppress(_Heard))
        call(pipe, prompt=[prompt] * count[0], **many, **off, **size(recipe))
    return caught


@contextmanager
def borrowed(pipe: Any, heard: tuple[Encoder, ...]) -> Iterator[None]:
    """The pipeline for us alone: no weight asks for a gradient; everything is given back."""
    module, decoder = denoiser(pipe)[1], getattr(pipe, "vae", None)
    parts = (module, *(encoder.module for encoder in heard), *([decoder] if isinstance(decoder, nn.Module) else []))
    with lease(module), ExitStack() as stack:
        for part in parts:
            stack.enter_context(without_weight_gradients(part))
        yield
