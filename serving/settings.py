"""How the service is run: every option, declared once, from the command line or from SIMILE_* in the environment."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simile.errors import InputError
from simile.scoring import Device, Precision

ENVIRONMENT_PREFIX = "SIMILE_"

_Port = Annotated[int, Field(ge=0, le=65535)]
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """The service's options; ``--max-pairs`` and ``SIMILE_MAX_PAIRS`` are both ``max_pairs`` here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[_Port, Field(description="port of the API; 0 takes a free one")] = 8080
    metrics_port: Annotated[_Port, Field(description="port of /metrics; 0 takes a free one")] = 9090
    device: Annotated[Device, Field(description="auto, cpu or cuda")] = "auto"
    precision: Annotated[Precision, Field(description="auto, fp32, bf16 or fp16")] = "auto"
    prior: Annotated[
        float | None,
        Field(
            gt=0, lt=1, description="share of positives that probabilities assume, in place of the calibration's own"
        ),
    ] = None
    max_body_bytes: Annotated[_Count, Field(description="longest request body")] = 4 * 2**20
    max_pairs: Annotated[_Count, Field(description="most pairs of one request")] = 1024
    max_characters: Annotated[_Count, Field(description="longest text")] = 32768
    max_waiting_pairs: Annotated[_Count, Field(description="pairs that may wait before requests are refused")] = 8192
    deadline_s: Annotated[_Seconds, Field(description="seconds until a request is given up")] = 30
    drain_s: Annotated[_Seconds, Field(description="seconds that running requests have to end in on SIGTERM")] = 25

    @model_validator(mode="after")
    def _idle_server_accepts_any_call(self) -> Self:
        if self.max_waiting_pairs < self.max_pairs:
            raise ValueError(
                f"got max_waiting_pairs {self.max_waiting_pairs}, need at least max_pairs ({self.max_pairs})"
            )
        return self

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings that SIMILE_* in ``environ`` ask for, defaults elsewhere.

        Raises:
            InputError: a value is not what the option takes.
        """
        return cls.resolve({}, environ)

    @classmethod
    def resolve(cls, overrides: Mapping[str, object], environ: Mapping[str, str]) -> Self:
        """Return the overrides over the environment over the defaults.

        Args:
            overrides: values by option, as the command line gives them; None means that it gives none.
            environ: read for SIMILE_ followed by the option in capitals; other names are left alone, for Kubernetes
                puts its own SIMILE_* there when a Service is called simile.

        Raises:
            InputError: a value is not what the option takes.
        """
        variables = {option: ENVIRONMENT_PREFIX + option.upper() for option in cls.model_fields}
        values: dict[str, object] = {
            option: environ[variable] for option, variable in variables.items() if variable in environ
        }
        given = {option: value for option, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(values | given)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise InputError(first["msg"].removeprefix("Value error, ")) from error
            option = str(first["loc"][0])
            source = variables[option] if option in values and option not in given else "--" + option.replace("_", "-")
            raise InputError(f"{source}: got {first['input']!r}; {first['msg']}") from error
