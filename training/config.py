"""What a training run is told: one frozen model, one YAML file."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simile.artifacts.bundle import Name


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
    max_length: Annotated[int, Field(ge=8)] = 128
    """In tokens; what is longer is cut."""
    method: Literal["lora", "full"] = "lora"
    lora: LoraConfig = LoraConfig()
    loss: Literal["cosent", "ranking"] = "cosent"
    """``cosent``: every positive pair above every negative one. ``ranking``: every positive pair above the batch's
    other texts (multiple negatives); negative pairs are then not used."""
    epochs: Annotated[int, Field(ge=1)] = 2
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Never more than a tenth of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 autocast on GPUs and on processors where it is faster."""
    seed: int = 0

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> "TrainConfig":
        if self.revision and self.base.startswith("bundled:"):
            raise ValueError(f"got a revision for {self.base}, which has one version only")
        return self
