"""The numbers of a decomposition. The defaults are those of the published method, except where a line says so."""

from pydantic import BaseModel, ConfigDict, Field

TOP = 50


class Recipe(BaseModel):
    """Chefer et al., The Hidden Language of Diffusion Models, ICLR 2024: 100 pictures, 500 steps of 6, N = 50.

    `inference_steps`, `guidance`, `height` and `width` (pixels) None take the pipeline's own. `words`: the whole
    vocabulary, or only these words; the concept's own words and `without` are never in it. `limit`: of more words than
    that, those nearest to the concept are kept. `letters`: the fewest letters of a word. `show`: pictures of the
    concept and of its decomposition at equal seeds, and `show_words` words with a picture each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str = "a photo of {}"
    pictures: int = Field(100, ge=1)
    inference_steps: int | None = Field(None, ge=1)
    guidance: float | None = None
    height: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    steps: int = Field(500, ge=1)
    batch: int = Field(6, ge=1)
    top: int = Field(TOP, ge=1)
    sparsity: float = 1e-3  # lambda
    rate: float = 1e-3
    decay: float = 1e-2
    absolute: bool = False  # |f(w)| as in the released code, not the paper's ReLU
    seed: int = 0
    words: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    limit: int = Field(5000, ge=1)
    letters: int = Field(3, ge=1)
    save_every: int = Field(50, ge=1)
    show: int = Field(4, ge=0)
    show_words: int = Field(10, ge=0)
