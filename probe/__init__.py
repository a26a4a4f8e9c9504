"""probe: see inside diffusion models.

Attach to a live diffusers pipeline, record what it did with every word, explain it, and keep the record:

    pipe = probe.load()
    with probe.record(pipe) as recording:
        picture = pipe("a cat and a red balloon").images[0]
    heatmap = probe.attention(recording.trace, "balloon")

Importing this package loads nothing else: each public name is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probe import errors as errors
from probe._version import __version__ as __version__
from probe.errors import ProbeError as ProbeError

if TYPE_CHECKING:
    from probe import bias as bias
    from probe import explain as explain
    from probe import nurse as nurse
    from probe import show as show
    from probe import study as study
    from probe.attach.asked.concepts import Concepts as Concepts
    from probe.attach.asked.gradients import Gradients as Gradients
    from probe.attach.asked.leave_out import LeaveOneOut as LeaveOneOut
    from probe.attach.asked.leave_out import Shapley as Shapley
    from probe.attach.asked.lens import lens as lens
    from probe.attach.asked.lens import with_lens as with_lens
    from probe.attach.asked.roles import Ablation as Ablation
    from probe.attach.asked.roles import Patching as Patching
    from probe.attach.asked.without import without as without
    from probe.attach.image.record import record_image as record_image
    from probe.attach.kept.thumbnails import decode_thumbnails as decode_thumbnails
    from probe.attach.record import record as record
    from probe.attach.relevance.relevant import Relevancy as Relevancy
    from probe.attach.relevance.targets import ClipSimilarity as ClipSimilarity
    from probe.attach.relevance.towers import TowerRule as TowerRule
    from probe.attach.relevance.towers import explain_classifier as explain_classifier
    from probe.attach.relevance.towers import explain_clip as explain_clip
    from probe.checkup import doctor as doctor
    from probe.comparison import Comparison as Comparison
    from probe.concepts.concept import Concept as Concept
    from probe.concepts.decompose import decompose as decompose
    from probe.concepts.direction import Direction as Direction
    from probe.concepts.direction import direction as direction
    from probe.concepts.steer import Steer as Steer
    from probe.concepts.steer import SteerOutputs as SteerOutputs
    from probe.explain.attention import attention as attention
    from probe.explain.compare import compare as compare
    from probe.explain.concept_attention import concept_attention as concept_attention
    from probe.explain.gradients import gradients as gradients
    from probe.explain.gradients import token_scores as token_scores
    from probe.explain.guidance import guidance as guidance
    from probe.explain.leave_one_out import change as change
    from probe.explain.leave_one_out import leave_one_out as leave_one_out
    from probe.explain.region import words_of_region as words_of_region
    from probe.explain.relevancy import relevancy as relevancy
    from probe.explain.rollout import rollout as rollout
    from probe.explain.segmentation import segmentation as segmentation
    from probe.explain.shapley import shapley as shapley
    from probe.generator.weights import load as load
    from probe.heatmap import Heatmap as Heatmap
    from probe.nurse.diagnose import diagnose as diagnose
    from probe.site import Site as Site
    from probe.site import select as select
    from probe.store import open_trace as open
    from probe.store import verify as verify
    from probe.study.question import Study as Study
    from probe.trace import Trace as Trace
    from probe.words import Word as Word

__all__ = [
    "Ablation",
    "ClipSimilarity",
    "Comparison",
    "Concept",
    "Concepts",
    "Direction",
    "Gradients",
    "Heatmap",
    "LeaveOneOut",
    "Patching",
    "ProbeError",
    "Relevancy",
    "Shapley",
    "Site",
    "Steer",
    "SteerOutputs",
    "Study",
    "TowerRule",
    "Trace",
    "Word",
    "__version__",
    "attention",
    "bias",
    "change",
    "compare",
    "concept_attention",
    "decode_thumbnails",
    "decompose",
    "diagnose",
    "direction",
    "doctor",
    "errors",
    "explain",
    "explain_classifier",
    "explain_clip",
    "gradients",
    "guidance",
    "leave_one_out",
    "lens",
    "load",
    "nurse",
    "open",
    "record",
    "record_image",
    "relevancy",
    "rollout",
    "segmentation",
    "select",
    "shapley",
    "show",
    "study",
    "token_scores",
    "verify",
    "with_lens",
    "without",
    "words_of_region",
]

_ROOMS = ("bias", "explain", "nurse", "show", "study")
_HOMES = {
    "Ablation": "probe.attach.asked.roles",
    "ClipSimilarity": "probe.attach.relevance.targets",
    "Comparison": "probe.comparison",
    "Concept": "probe.concepts.concept",
    "Concepts": "probe.attach.asked.concepts",
    "Direction": "probe.concepts.direction",
    "Gradients": "probe.attach.asked.gradients",
    "Heatmap": "probe.heatmap",
    "LeaveOneOut": "probe.attach.asked.leave_out",
    "Patching": "probe.attach.asked.roles",
    "Relevancy": "probe.attach.relevance.relevant",
    "Shapley": "probe.attach.asked.leave_out",
    "Site": "probe.site",
    "Steer": "probe.concepts.steer",
    "SteerOutputs": "probe.concepts.steer",
    "Study": "probe.study.question",
    "TowerRule": "probe.attach.relevance.towers",
    "Trace": "probe.trace",
    "Word": "probe.words",
    "attention": "probe.explain.attention",
    "change": "probe.explain.leave_one_out",
    "compare": "probe.explain.compare",
    "concept_attention": "probe.explain.concept_attention",
    "decode_thumbnails": "probe.attach.kept.thumbnails",
    "decompose": "probe.concepts.decompose",
    "diagnose": "probe.nurse.diagnose",
    "direction": "probe.concepts.direction",
    "doctor": "probe.checkup",
    "explain_classifier": "probe.attach.relevance.towers",
    "explain_clip": "probe.attach.relevance.towers",
    "gradients": "probe.explain.gradients",
    "guidance": "probe.explain.guidance",
    "leave_one_out": "probe.explain.leave_one_out",
    "lens": "probe.attach.asked.lens",
    "load": "probe.generator.weights",
    "open": "probe.store:open_trace",
    "record": "probe.attach.record",
    "record_image": "probe.attach.image.record",
    "relevancy": "probe.explain.relevancy",
    "rollout": "probe.explain.rollout",
    "segmentation": "probe.explain.segmentation",
    "select": "probe.site",
    "shapley": "probe.explain.shapley",
    "token_scores": "probe.explain.gradients",
    "verify": "probe.store",
    "with_lens": "probe.attach.asked.lens",
    "without": "probe.attach.asked.without",
    "words_of_region": "probe.explain.region",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"probe.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'probe' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    home, _, other_name = _HOMES[name].partition(":")
    value = globals()[name] = getattr(import_module(home), other_name or name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
