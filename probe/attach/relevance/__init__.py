"""Relevance, from a scalar back through attention: denoisers, text encoders, CLIP and classifiers."""
