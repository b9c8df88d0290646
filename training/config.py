"""What a training run is told: one frozen model, one YAML file."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simile.artifacts.bundle import Name

MIN_LENGTH = 8
"""Tokens that an encoder must at least read of a text."""
Loss = Literal["cosent", "ranking"]


class LoraConfig(BaseModel):
    """Low-rank adaptation of every linear layer (Hu et al. 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: Annotated[int, Field(ge=1)] = 32
    alpha: Annotated[float, Field(gt=0)] = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05


class TrainConfig(BaseModel):
    """One member's training."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name = "encoder"
    """The member's name in the bundle."""
    base: str
    """Hub name, local folder, or ``bundled:minilm``."""
    revision: str | None = None
    """Commit of the hub's repository."""
    prompt: str = ""
    """Put before every text, in training as in serving."""
    max_length: Annotated[int, Field(ge=MIN_LENGTH)] = 128
    """In tokens; what is longer is cut."""
    method: Literal["lora", "full"] = "full"
    lora: LoraConfig = LoraConfig()
    loss: dict[Loss, Annotated[float, Field(gt=0)]] = {"ranking": 1.0, "cosent": 0.3}
    """Weights of the losses that are summed; a name alone stands for that loss only. ``cosent``: every positive pair
    above every negative one, or the better pair above the worse. ``ranking``: each text of a positive pair finds its
    partner among the batch's texts, those that mean the same left out."""
    epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Never more than a tenth of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 autocast on GPUs and on processors where it is faster."""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("loss", mode="before")
    @classmethod
    def _name_is_weight_one(cls, value: object) -> object:
        return {value: 1.0} if isinstance(value, str) else value

    @field_validator("loss")
    @classmethod
    def _has_a_loss(cls, value: dict[Loss, float]) -> dict[Loss, float]:
        if not value:
            raise ValueError("need at least one loss (cosent, ranking)")
        return value

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> "TrainConfig":
        if self.revision and self.base.startswith("bundled:"):
            raise ValueError(f"got a revision for {self.base}, which has one version only")
        return self
