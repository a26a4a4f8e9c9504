"""From a trace to a heatmap. `METHODS` lists the explainers; `by` finds one; `held` tries all on a
trace; `needs` says what to record for some."""

from probe.explain.methods import METHODS, Method, by, held, needs

__all__ = ["METHODS", "Method", "by", "held", "needs"]
