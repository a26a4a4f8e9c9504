"""What Menagerie is called, and the guidance scale that goes with its weights."""

from typing import Any

NAMES = ("menagerie", "menagerie-control")
GUIDANCE = 5.0  # the scale that Menagerie's card is measured at; its pipeline class would take 7.5


def own_guidance(source: Any = None) -> float | None:
    """The scale to take where none was given: Menagerie's own; None for other models, whose pipelines have theirs."""
    return GUIDANCE if source is None or source in NAMES else None
