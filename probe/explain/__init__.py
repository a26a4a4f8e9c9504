"""From a trace to a heatmap. `METHODS` lists the explainers; `by` finds one; `held` tries all on a trace."""

from probe.explain.methods import METHODS, Method, by, held

__all__ = ["METHODS", "Method", "by", "held"]
