"""Interventions at work: other latents, other attention, other text."""
