"""What the pages share: saved traces, the worker, the viewer, charts and downloads."""
