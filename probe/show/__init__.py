"""Figures and reports of traces and heatmaps. Nothing here touches matplotlib's global state or opens a window."""

from probe.show.animation import Animation, animation, film
from probe.show.audit import AuditCard, AuditPart, Sheet, audit_report, render_audit
from probe.show.comparison import comparison, comparison_curves, comparison_panels
from probe.show.concept import ConceptCard, concept_report, render_concept
from probe.show.curves import guidance_curve, has_guidance, word_curves
from probe.show.evaluation import Interval, Predictor, interval_panels, prediction_curves
from probe.show.filmstrip import film_strip
from probe.show.guidance_maps import guidance_strip
from probe.show.methods import failures, ranking_figure, side_by_side
from probe.show.nursing import Story, before_after, has_nursing, nursing_curves
from probe.show.render import html_figure, overlay, overlays, strip
from probe.show.report import render_report, report
from probe.show.shares import SharePanel, share_panels
from probe.show.sheet import contact_sheet
from probe.show.tables import lens_figure, lens_pictures, table_figure

__all__ = [
    "Animation",
    "AuditCard",
    "AuditPart",
    "ConceptCard",
    "Interval",
    "Predictor",
    "SharePanel",
    "Sheet",
    "Story",
    "animation",
    "audit_report",
    "before_after",
    "comparison",
    "comparison_curves",
    "comparison_panels",
    "concept_report",
    "contact_sheet",
    "failures",
    "film",
    "film_strip",
    "guidance_curve",
    "guidance_strip",
    "has_guidance",
    "has_nursing",
    "html_figure",
    "interval_panels",
    "lens_figure",
    "lens_pictures",
    "nursing_curves",
    "overlay",
    "overlays",
    "prediction_curves",
    "ranking_figure",
    "render_audit",
    "render_concept",
    "render_report",
    "report",
    "share_panels",
    "side_by_side",
    "strip",
    "table_figure",
    "word_curves",
]
