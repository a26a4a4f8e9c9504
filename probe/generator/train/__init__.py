"""Training of Menagerie: `python -m probe.generator.train FOLDER` trains every part."""
