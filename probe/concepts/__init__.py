"""Concepts: what a model means by a phrase, as a mixture of words that can be read, turned up and turned down."""
