"""Nursing: interventions that bring neglected subjects back, each a loss over the maps of words."""

from probe.nurse.adaptive import Adaptive
from probe.nurse.attend_and_excite import AttendAndExcite
from probe.nurse.binding import Conform, SynGen
from probe.nurse.boxes import BoxDiff, LayoutGuidance
from probe.nurse.initno import InitNO
from probe.nurse.presence import AStar, DivideAndBind

__all__ = [
    "AStar",
    "Adaptive",
    "AttendAndExcite",
    "BoxDiff",
    "Conform",
    "DivideAndBind",
    "InitNO",
    "LayoutGuidance",
    "SynGen",
]
