"""Existing pictures: through the autoencoder, and through the pipeline's own loop."""
