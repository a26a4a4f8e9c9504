"""Which word and which patch made a CLIP score, and which patch a classifier's decision: relevance in any transformer
of the transformers library.

Two rules (`TowerRule.method`): "relevancy", R = product of 1 + mean_heads(max(0, grad_A * A)) (Chefer, Gur, Wolf,
"Generic Attention-model Explainability", 2021), and "lrp", the same with the relevance of A in place of A ("Transformer
Interpretability Beyond Attention Visualization", 2021). What lowered the score is cut, so a map never says "against";
features that neither words nor patches carry alone, such as position, are shared out among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from PIL import Image
from torch import Tensor, nn

from probe.attach.change.gradient import without_weight_gradients
from probe.attach.relevance.lrp import Linear, propagating
from probe.attach.relevance.unrolled import rolled, starting_at, unrolled
from probe.errors import BadInput, BadModel
from probe.heatmap import Heatmap

LAST = -1


@dataclass(frozen=True)
class TowerRule:
    """How relevance is carried. `start`: the first layer that counts, as an index; None is the published choice: the
    last layer alone for CLIP, all for a classifier, all but the first with "lrp". More layers bring in more context.
    """

    method: Literal["relevancy", "lrp"] = "relevancy"
    start: int | None = None

    @property
    def units(self) -> str:
        """Of the values."""
        what = "attention" if self.method == "relevancy" else "relevance of attention"
        return f"relevancy (gradient x {what})"


@dataclass(frozen=True, eq=False)
class ClipExplanation:
    """`score`: the cosine. `patches`: a map over the picture's patches. `words` (word): shares of the text, sum 1."""

    score: float
    patches: Heatmap
    words: xr.DataArray


@dataclass(frozen=True)
class Tower:
    """One transformer on its way to a score: `embed` runs it, `score` goes on from there."""

    model: nn.Module
    module: nn.Module
    start: nn.Module  # gives the embeddings
    embed: Callable[[], Tensor]
    score: Callable[[Tensor], Tensor]
    relevant: Callable[[Tensor], Tensor]  # the same, with the rules of lrp

    def relevance(self, rule: TowerRule, first: int) -> Tensor:
        """R [n, n], from layer `first` on."""
        A, G = self._differentiated(rule)
        layers = range(len(A))[first:]
        if not layers:
            raise BadInput(f"start={first} leaves none of the {len(A)} layers; give one from {-len(A)} to {len(A) - 1}")
        return rolled([A[i] for i in layers], [G[i] for i in layers])

    def _differentiated(self, rule: TowerRule) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """(A or its relevance, the gradient of the score), layer by layer."""
        A = list[Tensor]()
        with torch.enable_grad(), without_weight_gradients(self.model), starting_at(self.start, lambda x: None):
            with unrolled([self.module], A.append):
                y = self.score(self.embed())
            gradients = torch.autograd.grad(y, self._found(A))
            if rule.method == "relevancy":
                return [a.detach() for a in A], gradients
            again = list[Tensor]()
            with propagating(self.model, again.append):
                y = self.relevant(self.embed())
            return torch.autograd.grad(y, self._found(again)), gradients

    def _found(self, A: Sequence[Tensor]) -> Sequence[Tensor]:
        if not A:
            raise BadModel(
                f"{type(self.module).__name__} showed no attention; load the model with attn_implementation='sdpa'"
            )
        return A


def explain_clip(
    model: Any, picture: Image.Image, *, text: str, processor: Any, rule: TowerRule | None = None
) -> ClipExplanation:
    """Which words and which patches made the cosine of a picture and a text.

    `model` is a transformers CLIPModel, `processor` its CLIPProcessor (anything with `tokenizer` and
    `image_processor`). Raises BadModel for a model without two towers, BadInput for a text without words.
    """
    if not hasattr(model, "visual_projection"):
        raise BadModel(f"{type(model).__name__} is not a CLIPModel: it has no visual_projection; load a CLIPModel")
    how = rule or TowerRule()
    ids, words = _read(processor.tokenizer, text)
    pixels = _pixels(processor, picture, model)

    def see() -> Tensor:
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    def read() -> Tensor:
        return model.text_projection(model.text_model(input_ids=ids.to(model.device)).pooler_output)

    with torch.no_grad():
        seen, said = see(), read()
    eye, ear = _tower(model, model.vision_model, see, said), _tower(model, model.text_model, read, seen)
    first = LAST if how.start is None else how.start
    R = ear.relevance(how, first)
    patches = _heatmap(eye.relevance(how, first)[0], model.config.vision_config, text, how)
    return ClipExplanation(float(F.cosine_similarity(seen, said)), patches, _by_word(R[-1], words))


def explain_classifier(
    model: Any, picture: Image.Image, *, processor: Any, label: int | str | None = None, rule: TowerRule | None = None
) -> Heatmap:
    """Which patches made a vision transformer's decision; `label` is a class by number or name, None the largest.

    `model` is e.g. a transformers ViTForImageClassification, `processor` its image processor. Raises BadInput for an
    unknown class, BadModel for a model without patches.
    """
    how, pixels = rule or TowerRule(), _pixels(processor, picture, model)

    def logits() -> Tensor:
        return model(pixel_values=pixels).logits

    with torch.no_grad():
        best = int(logits().argmax())
    chosen = best if label is None else _label(model.config, label)
    pick = _picker(chosen)
    start = how.start if how.start is not None else int(how.method == "lrp")
    R = Tower(model, model, _patches(model), logits, pick, pick).relevance(how, start)
    return _heatmap(R[0], model.config, str(model.config.id2label.get(chosen, chosen)), how)


def _tower(model: Any, module: Any, embed: Callable[[], Tensor], other: Tensor) -> Tower:
    """A tower of CLIP, whose score is the cosine with the other one's embedding; norms pass relevance on."""

    def relevant(x: Tensor) -> Tensor:
        return Linear.apply(x, other, x.detach() @ other.T).sum()

    start = module.get_input_embeddings() if module is model.text_model else _patches(module)
    return Tower(model, module, start, embed, lambda x: F.cosine_similarity(x, other).sum(), relevant)


def _patches(module: nn.Module) -> nn.Module:
    """What makes embeddings of patches."""
    found = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    if not found:
        raise BadModel(f"{type(module).__name__} cuts no picture into patches; load a vision transformer")
    return found[0]


def _picker(label: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: logits[0, label]


def _label(config: Any, label: int | str) -> int:
    found = [i for i, name in config.id2label.items() if label in (i, name)]
    if not found:
        names = ", ".join(str(name) for name in list(config.id2label.values())[:8])
        raise BadInput(f"label={label!r} is not one of the {len(config.id2label)} classes: {names}, ...")
    return int(found[0])


def _pixels(processor: Any, picture: Image.Image, model: Any) -> Tensor:
    """[1, 3, y, x] as the model reads it."""
    eye = getattr(processor, "image_processor", processor)
    pixels = eye(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
    return pixels.to(model.device, model.dtype)


def _read(tokenizer: Any, text: str) -> tuple[Tensor, list[tuple[str, list[int]]]]:
    """(ids [1, n] from start to end, each word with its positions)."""
    read = tokenizer(text, truncation=True, return_tensors="pt")
    numbers = read.word_ids(0)
    spans = {n: read.word_to_chars(0, n) for n in dict.fromkeys(numbers) if n is not None}
    words = [(text[s.start : s.end], [i for i, m in enumerate(numbers) if m == n]) for n, s in spans.items()]
    if not words:
        raise BadInput(f"{text!r} has no word to explain; give a text with one")
    return read["input_ids"], words


def _by_word(row: Tensor, words: Sequence[tuple[str, list[int]]]) -> xr.DataArray:
    """(word) shares of the end token's relevance; alike where there is none."""
    values = np.array([float(row[positions].sum()) for _, positions in words])
    total = values.sum()
    shares = values / total if total > 0 else np.full(len(values), 1 / len(values))
    return xr.DataArray(shares, {"word": [word for word, _ in words]}, "word", attrs={"units": "share of relevancy"})


def _heatmap(row: Tensor, config: Any, subject: str, rule: TowerRule) -> Heatmap:
    """The first token's relevance for the patches, which come last."""
    rows, columns = (side // config.patch_size for side in (config.image_size, config.image_size))
    field = row[-rows * columns :].unflatten(0, (rows, columns)).float().cpu().numpy()
    return Heatmap(xr.DataArray(field, dims=("y", "x")), subject, rule.method, rule.units, {"start": rule.start})
