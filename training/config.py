"""Settings of training: one frozen model, one YAML file."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simile.artifacts.bundle import CalibrationMethod, Name, Prompts, have_sides, prompts_of

MIN_LENGTH = 8
"""Fewest tokens per text."""
Loss = Literal["ranking", "cosent", "angle", "mse", "contrastive", "online-contrastive", "focal", "teacher"]
"""Losses by name; `training.losses` defines them."""
_MIN_STEPS, _MIN_DISTANCE, MAX_EPOCHS = 200, 0.02, 10
"""The steps, and the steps times the learning rate, that ``epochs: auto`` aims at where one epoch has fewer, and the
most epochs for them. Adam moves a weight by about the learning rate per step: the product is how far it can go."""
Epochs = Annotated[int, Field(ge=0, le=10_000)]


class LoraConfig(BaseModel):
    """Low-rank adaptation of every linear layer (Hu et al. 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rank: Annotated[int, Field(ge=1, le=2**16)] = 32
    """Rank of the adapters."""
    alpha: Annotated[float, Field(gt=0)] = 64
    """Scale of the adapters' output, divided by the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout of the adapters' input."""


class TrainConfig(BaseModel):
    """Settings of one member's training."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    RENAMED: ClassVar[Mapping[str, str]] = {"keep": "min_base_agreement", "warmup_steps": "warmup_share"}
    """Today's name of each setting that once had another; the old one is refused."""

    name: Name = "encoder"
    """The member's name in the bundle."""
    base: str
    """Base encoder: a name on the hub, a local folder, or one distributed as a Python package
    (``bundled:minilm``, ``bundled:mpnet``)."""
    revision: str | None = None
    """Commit of the hub's repository."""
    prompt: str = ""
    """Text that is put before every text, in training as in serving."""
    prompt_a: str | None = None
    """Text that is put before the first texts of pairs, such as questions, in place of ``prompt``."""
    prompt_b: str | None = None
    """Text that is put before the second texts of pairs, such as articles, in place of ``prompt``."""
    max_length: Annotated[int, Field(ge=MIN_LENGTH, lt=2**31)] | None = None
    """Tokens per text; longer texts are cut (default: the encoder's own limit)."""
    method: Literal["lora", "full"] = "full"
    """Whether low-rank adapters (``lora``) or all weights (``full``) are trained."""
    lora: LoraConfig = LoraConfig()
    """Settings of the adapters."""
    loss: dict[Loss, Annotated[float, Field(gt=0)]] = {"ranking": 1.0, "cosent": 0.3}
    """Losses that are summed, each with its weight; a name alone stands for that loss only."""
    epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] | tuple[Epochs, ...] = "auto"
    """Epochs over each file of pairs, one file after the other: one number for all files, or one per file (0 skips
    the file). ``auto`` is as many as make about 200 steps, more at learning rates below 1e-4 (1,000 at 2e-5); from 1
    to 10 epochs."""
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Dimensions to which embeddings may be cut when they are served; each loss is then averaged over the full
    embedding and each of these cuts (Kusupati et al. 2022, arXiv:2205.13147)."""
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 32
    """Pairs per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Highest learning rate: reached after the warm-up, from there falling linearly to 0."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.001
    """Weight decay of AdamW."""
    most_pairs: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Most pairs that one training sees: more are dealt out to several trainings from the same base, whose weights are
    averaged."""
    min_base_agreement: Annotated[float, Field(ge=0, lt=1)] = 0.97
    """Minimum agreement with the base encoder, the Spearman correlation of both encoders' cosines on general English
    sentences. Of the interpolated weights that reach it, the best on the dev sets are kept; 0 disables it."""
    calibration: CalibrationMethod = "platt"
    """Curve from score to probability, fitted on ``--calibrate`` or dev pairs: logistic (``platt``), or any that rises
    (``isotonic``)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of training, and of its figures on dev sets; ``auto`` is bf16 autocast on GPUs and on processors where
    it is faster, fp32 elsewhere."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random choices."""

    @property
    def prompts(self) -> Prompts:
        """The prompts of the first and the second texts of pairs."""
        return prompts_of(self.prompt, self.prompt_a, self.prompt_b)

    @property
    def has_sides(self) -> bool:
        """Whether a text has another embedding as a first than as a second text of pairs."""
        return have_sides(self.prompts)

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
    def _trains_at_all(cls, value: str | int | tuple[int, ...]) -> str | int | tuple[int, ...]:
        if isinstance(value, tuple) and not sum(value):
            raise ValueError("need at least one epoch")
        return value

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> "TrainConfig":
        if self.revision and self.base.startswith("bundled:"):
            raise ValueError(f"got a revision for {self.base}, need none: it has one version only")
        return self


def epochs_by_file(config: TrainConfig, num_pairs: Sequence[int]) -> tuple[int, ...]:
    """Return the number of epochs over each file, given their numbers of pairs."""
    if isinstance(config.epochs, tuple):
        return config.epochs
    if config.epochs != "auto":
        return (config.epochs,) * len(num_pairs)
    steps_per_epoch = sum(ceil(num / config.batch_size) for num in num_pairs)
    num_steps = max(_MIN_STEPS, _MIN_DISTANCE / config.learning_rate)
    return (min(MAX_EPOCHS, max(1, round(num_steps / max(1, steps_per_epoch)))),) * len(num_pairs)
