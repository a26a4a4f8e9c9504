"""The numbers of a decomposition. The defaults are those of the published method, except where a line says so."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError, field_validator

from probe.errors import DamagedFile

TOP = 50


class Recipe(BaseModel):
    """Chefer et al., The Hidden Language of Diffusion Models, ICLR 2024: 100 pictures, 500 steps of 6, N = 50.

    `inference_steps`, `guidance`, `height` and `width` (pixels) None take the pipeline's own. `words`: the whole
    vocabulary, or only these words; the concept's own words and `without` are never in it. `limit`: of more words than
    that, those nearest to the concept are kept. `letters`: the fewest letters of a word. `trained`: of the whole
    vocabulary, words whose embedding is shorter than this share (0 to 1) of the median are left out, as hardly trained.
    `show`: pictures of the concept and of its decomposition at equal seeds, and `show_words` words with a picture each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str = "a photo of {}"
    pictures: PositiveInt = 100
    inference_steps: PositiveInt | None = None
    guidance: float | None = None
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    steps: PositiveInt = 500
    batch: PositiveInt = 6
    top: PositiveInt = TOP
    sparsity: float = 1e-3  # lambda
    rate: float = 1e-3
    decay: float = 1e-2
    absolute: bool = False  # |f(w)| as in the released code, not the paper's ReLU
    seed: int = 0
    words: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    limit: PositiveInt = 5000
    letters: PositiveInt = 3
    trained: float = 0.5
    save_every: PositiveInt = 50
    show: NonNegativeInt = 4
    show_words: NonNegativeInt = 10

    @field_validator("trained")
    @classmethod
    def _check_trained(cls, share: float) -> float:
        if not 0 <= share <= 1:
            raise ValueError(
                f"trained={share:g} is not a fraction of the median length of the words' embeddings; give 0 (all words "
                "stay) to 1 (the shorter half goes), such as 0.5"
            )
        return share


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that a concept's settings hold. Raises DamagedFile for settings that no recipe can have."""
    try:
        return Recipe(**{name: settings[name] for name in Recipe.model_fields if name in settings})
    except ValidationError as error:
        raise DamagedFile(f"the settings of this concept are not a recipe: {error}. Decompose it again") from error
