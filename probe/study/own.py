"""What a model takes where a study names nothing: data that is found once, so that planning stays pure."""

from pydantic import BaseModel, ConfigDict


class Own(BaseModel):
    """As far as it is known without loading the model; None where it is not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = None
    size: tuple[int, int] | None = None
    scheduler: str | None = None
    negative: str | None = None
