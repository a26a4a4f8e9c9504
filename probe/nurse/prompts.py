"""Other prompts: one after the other by step, or several whose guidance is added up."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from probe.errors import BadInput
from probe.intervention import PromptIntervention
from probe.words.article import article


class PromptSchedule(PromptIntervention):
    """From each of these steps on, the model reads another text; before the first of them, the prompt itself.

    Maps in the trace keep the words of the prompt: at steps that read another text, a word's map is that of whatever
    token stands in its place.
    """

    prompts: Mapping[int, str] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.prompts.values()))

    def check(self) -> None:
        """Raises BadInput without prompts, or for a step before the first."""
        if not self.prompts:
            raise BadInput(
                f"{self.method} has no prompts; give each the step from which it is read: prompts={{10: 'a dog'}}"
            )
        super().check()
        if min(self.prompts) < 0:
            raise BadInput(f"prompts starts at step {min(self.prompts)}; steps count from 0")

    def check_run(self, steps: int) -> None:
        """Raises BadInput for a step that a run of so many has not."""
        late = sorted(first for first in self.prompts if first >= steps)
        if late:
            raise BadInput(
                f"{self.method} has a prompt from step {late[0]} on, and this run has the steps 0 to {steps - 1}: give "
                "it one of these, or take more steps"
            )

    def weights(self, step: int, steps: int) -> Mapping[str, float] | None:
        begun = [first for first in self.prompts if first <= step]
        return {self.prompts[max(begun)]: 1.0} if begun else None


class ComposableDiffusion(PromptIntervention):
    """Composable diffusion (Liu et al. 2022): the guidance of several prompts, added up.

    The prediction of the prompt becomes e(none) + sum over `prompts` of w (e(prompt) - e(none)); with guidance scale s,
    each is guided by s * w. `scales` are the w, 1 if not given; without `prompts` they are an article and each noun of
    `bindings` behind its modifiers. The pipeline's own prompt is denoised and recorded and has no part in the picture.
    Costs one more pass a prompt, picture and step.
    """

    by_predictions: ClassVar[bool] = True

    prompts: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    bindings: Mapping[str, tuple[str, ...]] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return self.prompts or tuple(f"{article(phrase)} {phrase}" for phrase in phrases_of(self.bindings))

    def check(self) -> None:
        """Raises BadInput without prompts, or where prompts and scales do not match."""
        if not self.texts:
            raise BadInput(f"{self.method} has no prompts; name them: prompts=['a cat', 'a red balloon']")
        super().check()
        if self.scales and len(self.scales) != len(self.texts):
            raise BadInput(f"there are {len(self.texts)} prompts and {len(self.scales)} scales; give one each")

    def weights(self, step: int, steps: int) -> Mapping[str, float] | None:
        return dict(zip(self.texts, self.scales or (1.0,) * len(self.texts), strict=True))


def phrases_of(bindings: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Nouns behind their modifiers: {"car": ("red",), "bowl": ()} -> ("red car", "bowl")."""
    words = ([*modifiers, noun] for noun, modifiers in bindings.items())
    return tuple(" ".join(re.sub(r"#\d+$", "", word) for word in row) for row in words)
