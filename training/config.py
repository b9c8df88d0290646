"""What a training run is told: one frozen model, one YAML file."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simile.artifacts.bundle import CalibrationMethod, Name

MIN_LENGTH = 8
"""Tokens that an encoder must at least read of a text."""
Loss = Literal["ranking", "cosent", "angle", "mse", "contrastive", "online-contrastive", "focal"]
"""What they are: `training.losses`."""
Epochs = Annotated[int, Field(ge=0)]


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
    max_length: Annotated[int, Field(ge=MIN_LENGTH)] | None = None
    """In tokens; what is longer is cut. None: the encoder's own, as much as the untouched one reads."""
    method: Literal["lora", "full"] = "full"
    lora: LoraConfig = LoraConfig()
    loss: dict[Loss, Annotated[float, Field(gt=0)]] = {"ranking": 1.0, "cosent": 0.3}
    """Weights of the losses that are summed; a name alone stands for that loss only."""
    epochs: Annotated[int, Field(ge=1)] | tuple[Epochs, ...] = 1
    """Over each file of pairs, one file after the other: a number for all of them, or one for each (0: left out)."""
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of dimensions to which embeddings may be cut when they are served: the losses are then the mean of those
    over all dimensions and over the first so many (Kusupati et al. 2022, arXiv:2205.13147)."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Never more than a tenth of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    most_pairs: Annotated[int, Field(ge=1)] | None = None
    """That one training sees: more are dealt out to several trainings from the base, whose weights are averaged."""
    min_base_agreement: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Minimum agreement with the base encoder: the Spearman correlation of their cosines on general English sentences.
    Tuned weights below it are interpolated towards the base's until they reach it. 0 disables interpolation."""
    calibration: CalibrationMethod = "platt"
    """The curve from score to probability, fitted on labelled dev pairs: a logistic one, or any that rises."""
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
            raise ValueError(f"need at least one loss ({', '.join(get_args(Loss))})")
        return value

    @field_validator("epochs")
    @classmethod
    def _trains_at_all(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(value, tuple) and not sum(value):
            raise ValueError("need at least one epoch")
        return value

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> "TrainConfig":
        if self.revision and self.base.startswith("bundled:"):
            raise ValueError(f"got a revision for {self.base}, which has one version only")
        return self
