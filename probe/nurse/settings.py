"""Kinds of settings that several methods have, so that what no method can follow is refused before it runs."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
SomeShare = Annotated[float, Field(gt=0, le=1)]  # of what has at least one part
Temperature = Annotated[float, Field(ge=0.02)]  # far below it exp(1 / tau) leaves the range of float32
