"""A concept as a report tells it."""

from collections.abc import Iterator

from probe.concepts.concept import CONCEPT, DECOMPOSITION, TARGET, Concept
from probe.concepts.measures import MEASURES
from probe.show.concept import ConceptCard

TITLES = {
    CONCEPT: "The concept, as the model draws it",
    TARGET: "Before words were taken out",
    DECOMPOSITION: "Its words, mixed, from the same noise",
}
SETTINGS = ("solver", "pictures", "steps", "batch", "top", "sparsity", "rate", "seed", "template")
FOUND = ("model", "family", "vocabulary", "seconds", "device")


def card(concept: Concept) -> ConceptCard:
    """What a report says of a concept."""
    shares, told = concept.shares, concept.provenance
    return ConceptCard(
        concept.prompt,
        [(word, concept[word], shares[word]) for word in concept.top(len(concept.words))],
        subtitle=" · ".join(_subtitle(concept)),
        pictures={title: concept.pictures.get(name, ()) for name, title in TITLES.items()},
        drawn=concept.of_words,
        measures=told.get(MEASURES, {}),
        lists={
            "Settings": [(name, str(concept.settings[name])) for name in SETTINGS if name in concept.settings],
            "Run": [(name, str(told[name])) for name in FOUND if name in told],
            "Versions": sorted(told.get("versions", {}).items()),
        },
    )


def _subtitle(concept: Concept) -> Iterator[str]:
    yield f"{len(concept.words)} words"
    if "solver" in concept.settings:
        yield f"by {concept.settings['solver']}"
    if "model" in concept.provenance:
        yield str(concept.provenance["model"])
