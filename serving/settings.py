"""How the service is run: every option, declared once, from the command line or from SIMILE_* in the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from simile.errors import InputError
from simile.scoring import Device, Precision

ENVIRONMENT_PREFIX = "SIMILE_"

_Port = Annotated[int, Field(ge=0, le=65535)]
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _split(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


_Words = BeforeValidator(_split)
_SHORTEST_KEY = 8


def _is_key(text: str) -> bool:
    return len(text) >= _SHORTEST_KEY and text.isascii() and text.isprintable()


def _check_key(key: SecretStr) -> SecretStr:
    if not _is_key(key.get_secret_value()):
        raise ValueError(f"need keys of {_SHORTEST_KEY} printable ASCII characters or more")
    return key


_Key = Annotated[SecretStr, AfterValidator(_check_key)]

ENVIRONMENT_ONLY = frozenset({"api_keys"})
"""Options that a command line must not hold: every user of the machine can read it."""


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
    max_waiting_tokens: Annotated[_Count, Field(description="tokens that may wait before requests are refused")] = 65536
    cache_bytes: Annotated[int, Field(ge=0, description="memory for embeddings of texts seen before; 0 keeps none")] = (
        64 * 2**20
    )
    timing_headers: Annotated[bool, Field(description="tell in each answer's server-timing what its steps took")] = True
    long_texts: Annotated[
        Literal["cut", "refuse"], Field(description="what to do with a text of more tokens than an encoder reads")
    ] = "cut"
    # None and not empty: what is set and holds no key, as an empty secret does, must not open the service to all.
    api_keys: Annotated[
        tuple[_Key, ...] | None, _Words, Field(min_length=1, description="API keys, with spaces between")
    ] = None
    api_keys_file: Annotated[
        Path | None, Field(description="file of API keys, one a line; without any, all may call")
    ] = None
    cors_origins: Annotated[
        tuple[str, ...], _Words, Field(description="origins whose pages may call, such as https://example.org")
    ] = ()
    drift_folder: Annotated[
        Path | None, Field(description="folder that keeps what each bundle's first traffic was like, to tell a drift")
    ] = None
    transfer_s: Annotated[
        _Seconds, Field(description="seconds that a request may take to arrive, and its answer to be taken")
    ] = 30
    deadline_s: Annotated[_Seconds, Field(description="seconds until a request is given up")] = 30
    drain_s: Annotated[_Seconds, Field(description="seconds that running requests have to end in on SIGTERM")] = 25

    def all_api_keys(self) -> tuple[str, ...]:
        """Return the keys of the environment and of the file; none where everybody may call.

        Raises:
            InputError: there is no such file, or it has no key.
        """
        keys = [key.get_secret_value() for key in self.api_keys or ()]
        if self.api_keys_file:
            try:
                found = self.api_keys_file.read_text(encoding="utf-8").split()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{self.api_keys_file}: cannot be read as API keys ({type(error).__name__})") from None
            if not found or not all(map(_is_key, found)):
                raise InputError(
                    f"{self.api_keys_file}: need API keys of {_SHORTEST_KEY} printable ASCII characters or more, "
                    "one a line"
                )
            keys += found
        return tuple(keys)

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
            got = "" if option in ENVIRONMENT_ONLY else f"got {first['input']!r}; "
            # The cause would show the value in a traceback.
            raise InputError(f"{source}: {got}{first['msg']}") from (None if not got else error)
