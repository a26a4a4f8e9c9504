"""What a pipeline's weights are called."""

from typing import Any


def model_of(pipe: Any) -> str:
    """The name or folder that a pipeline was loaded by, or that of its class."""
    return str(pipe.config.get("_name_or_path") or type(pipe).__name__)


def revision_of(pipe: Any) -> str | None:
    """The digest of its weights, where the pipeline knows one: Menagerie does."""
    return pipe.config.get("_revision")
