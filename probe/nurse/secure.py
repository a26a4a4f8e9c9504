"""Secure, our own: subjects are drawn apart while the layout is decided, then whoever is about to be lost is held."""

from collections.abc import Sequence

from pydantic import PositiveInt

from probe.errors import BadInput
from probe.intervention import LatentIntervention, Score
from probe.nurse.adaptive import Adaptive
from probe.nurse.separate import Separate


class Secure(Adaptive):
    """Separate in the first `apart` steps; then Adaptive, which watches `watch` steps and nurses who is about to fail.

    Of pictures that Separate leaves without a subject, most lacked it already in the tenth step, where Adaptive still
    brings some back; and those that it has put right are left alone from then on.
    """

    groups: tuple[tuple[str, ...], ...]  # as of Separate: the words of each subject
    apart: PositiveInt = 5
    watch: PositiveInt = 5

    @property
    def separate(self) -> Separate:
        """What moves the first steps."""
        told = {"subjects": self.subjects, "groups": self.groups, "max_steps": self.apart, "strength": self.strength}
        return Separate(**told, resolution=self.resolution, sites=self.sites, encoder=self.encoder)

    @property
    def names(self) -> tuple[str, ...]:
        return self.separate.names

    def check(self) -> None:
        """Raises BadInput as Separate and Adaptive do."""
        if not self.subjects:
            raise BadInput("Secure has no subjects; name them beside the groups: subjects=['cat', 'dog']")
        super().check()
        self.separate.check()

    def check_run(self, steps: int) -> None:
        """Raises BadInput for a run that ends before anybody could be held."""
        last, first = min(steps, self.max_steps), self.apart + self.watch
        if first >= last:
            raise BadInput(
                f"Secure moves and watches {first} steps, and there are {last} that it may nurse: lower apart or "
                "watch, or take more steps"
            )

    def now(self, step: int, seen: Sequence[Score]) -> LatentIntervention | None:
        """Separate first; after it as Adaptive, from what was seen since."""
        return self.separate if step < self.apart else super().now(step, seen[self.apart :])

    def target(self, step: int) -> float | None:
        """The first step that is nursed on demand is refined until what was missing is there."""
        first = self.apart + self.watch
        return 1 - self.needed if step == first else LatentIntervention.target(self, step)
