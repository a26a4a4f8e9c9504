"""Nursing: interventions that bring neglected subjects back, each a loss over the maps of words."""

from probe.nurse.attend_and_excite import AttendAndExcite

__all__ = ["AttendAndExcite"]
