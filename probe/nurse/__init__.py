"""Nursing: interventions that bring neglected subjects back, and edits of attention and prompt, all as data."""

from probe.nurse.adaptive import Adaptive
from probe.nurse.attend_and_excite import AttendAndExcite
from probe.nurse.binding import Conform, SynGen
from probe.nurse.boxes import BoxDiff, LayoutGuidance
from probe.nurse.edits import PromptToPrompt, ScaleAttention, StructuredDiffusion
from probe.nurse.initno import InitNO
from probe.nurse.moved import how_far, moved, with_moved
from probe.nurse.patching import PatchAttention, PatchModules
from probe.nurse.presence import AStar, DivideAndBind
from probe.nurse.prompts import ComposableDiffusion, PromptSchedule
from probe.nurse.separate import Separate

__all__ = [
    "AStar",
    "Adaptive",
    "AttendAndExcite",
    "BoxDiff",
    "ComposableDiffusion",
    "Conform",
    "DivideAndBind",
    "InitNO",
    "LayoutGuidance",
    "PatchAttention",
    "PatchModules",
    "PromptSchedule",
    "PromptToPrompt",
    "ScaleAttention",
    "Separate",
    "StructuredDiffusion",
    "SynGen",
    "how_far",
    "moved",
    "with_moved",
]
