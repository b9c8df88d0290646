"""Settings of the service: each option is declared once, and read from the command line or SIMILE_* variables."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from simile.artifacts.bundle import DIGEST
from simile.errors import InputError
from simile.scoring import Device, Precision

ENVIRONMENT_PREFIX = "SIMILE_"

_Port = Annotated[int, Field(ge=0, le=65535)]
_Count = Annotated[int, Field(ge=1, lt=2**63)]
_Seconds = Annotated[float, Field(gt=0, le=10**6)]
_Words = BeforeValidator(lambda value: tuple(value.replace(",", " ").split()) if isinstance(value, str) else value)
_MIN_KEY_LENGTH = 8
NEED_KEYS = f"keys of {_MIN_KEY_LENGTH} printable ASCII characters or more, without spaces"


def is_key(text: str) -> bool:
    """Return whether this can be an API key."""
    return len(text) >= _MIN_KEY_LENGTH and text.isascii() and text.isprintable() and " " not in text


def _check_key(key: SecretStr) -> SecretStr:
    if not is_key(key.get_secret_value()):
        raise ValueError(f"need {NEED_KEYS}")
    return key


_Key = Annotated[SecretStr, AfterValidator(_check_key)]

_ORIGIN = re.compile(r"https?://[^/\s?#@*]+|null|\*")


def _check_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("need origins as browsers send them, such as https://example.org, without a path")
    return origin


_Origin = Annotated[str, AfterValidator(_check_origin)]


def _check_model_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ValueError("need letters, digits, dots, hyphens and underscores, since the name is part of paths")
    return name


_ModelName = Annotated[str, AfterValidator(_check_model_name)]

ENVIRONMENT_ONLY = frozenset({"api_keys"})
"""Secrets, which are no options of the command line: every user of the machine can read that."""


def variable(option: str) -> str:
    """Return the environment variable of the option."""
    return ENVIRONMENT_PREFIX + option.upper()


class Settings(BaseModel):
    """Options of the service; the field ``max_pairs`` is both ``--max-pairs`` and ``SIMILE_MAX_PAIRS``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    port: _Port = 8080
    """Port of the API; 0 takes a free one."""
    metrics_port: _Port = 9090
    """Port of /metrics; 0 takes a free one."""
    device: Device = "auto"
    """Device that encoders run on: ``auto``, ``cpu`` or ``cuda``."""
    precision: Precision = "auto"
    """Precision that encoders run in: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``."""
    digest: Annotated[str, Field(pattern=DIGEST)] | None = None
    """Digest that every served bundle must have, from a source that you trust."""
    verify_key: Path | None = None
    """File with the public key (PEM) by whose private key every served bundle, and the shadow, must be signed."""
    model_name: _ModelName | None = None
    """Name of the model in the paths of the Open Inference Protocol, in place of the bundle's, as KServe needs it."""
    load_s: _Seconds = 120
    """Seconds in which a bundle must be loaded and tried, at the start and on SIGHUP."""
    prior: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of positives that probabilities assume, in place of the calibration's own."""
    max_body_bytes: _Count = 4 * 2**20
    """Most bytes of a request body."""
    max_pairs: _Count = 1024
    """Most pairs per request."""
    max_characters: _Count = 32768
    """Most characters per text."""
    max_waiting_tokens: _Count = 65536
    """Most tokens of unanswered requests, fewer where they take more than 1 s; others are refused (back-pressure)."""
    cache_bytes: Annotated[int, Field(ge=0, lt=2**63)] = 64 * 2**20
    """Memory for the embeddings of recent texts, in bytes; 0 turns the cache off."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written: as ``text`` for people, or each as an object in ``json``."""
    timing_headers: bool = True
    """Report how long each step of a request took, in the response's ``server-timing`` header."""
    long_texts: Literal["cut", "refuse"] = "cut"
    """What happens to a text with more tokens than an encoder reads: ``cut`` or ``refuse``."""
    # None and not empty: a variable that is set but holds no key, as an empty secret does, must not open the service.
    api_keys: Annotated[tuple[_Key, ...] | None, _Words, Field(min_length=1)] = None
    """API keys, separated by spaces or commas."""
    api_keys_file: Path | None = None
    """File of API keys (KEY or NAME:KEY per line), read again when it changes. Without any, everybody may call."""
    hosts: Annotated[tuple[str, ...], _Words] = ()
    """Hosts that requests may name (``*``: any). By default any, but no domain if ``host`` is a loopback address."""
    cors_origins: Annotated[tuple[_Origin, ...], _Words] = ()
    """Origins whose pages may call, such as ``https://example.org``, separated by spaces or commas."""
    shadow: Path | None = None
    """A second bundle that scores a share of the calls too, while the service is idle, to learn how it differs."""
    shadow_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the calls that the shadow scores too."""
    sample_folder: Path | None = None
    """Folder that a sample of the scored pairs is written to, with their texts, so that it can be labelled."""
    sample_share: Annotated[float, Field(gt=0, le=1)] = 0.001
    """Share of the scored pairs that are sampled, over all scores; rare scores are sampled more often."""
    sample_bytes: Annotated[int, Field(ge=2**24, lt=2**63)] = 256 * 2**20
    """Most bytes of the sample's files; the oldest ones are deleted first."""
    sample_hashed: bool = False
    """Write hashes in place of the texts, so that scores can be counted and nothing can be labelled."""
    drift_folder: Path | None = None
    """Folder that stores what each bundle's first traffic was like, to detect drift."""
    transfer_s: _Seconds = 30
    """Seconds in which a request must arrive, and in which its response must be received."""
    deadline_s: _Seconds = 30
    """Seconds after which a request is abandoned."""
    connection_age_s: _Seconds = 600
    """Seconds after which a connection is closed at the end of a response, so that new replicas get clients."""
    linger_s: Annotated[float, Field(ge=0, le=10**6)] = 5
    """Seconds after SIGTERM in which requests are still answered, so that load balancers can stop sending them."""
    drain_s: _Seconds = 25
    """Seconds in which running requests have to finish once ``linger_s`` is over."""

    @classmethod
    def resolve(cls, overrides: Mapping[str, object], environ: Mapping[str, str]) -> Self:
        """Return settings from the overrides that are not None, else from the environment, else from the defaults.

        Unknown SIMILE_* names are ignored: Kubernetes sets some of its own where a Service is named simile.

        Raises:
            InputError: a value is not one that the option takes.
        """
        values: dict[str, object] = {
            option: environ[variable(option)] for option in cls.model_fields if variable(option) in environ
        }
        given = {option: value for option, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(values | given)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise InputError(first["msg"].removeprefix("Value error, ")) from error
            option = str(first["loc"][0])
            is_variable = option in values and option not in given
            source = variable(option) if is_variable else "--" + option.replace("_", "-")
            got = "" if option in ENVIRONMENT_ONLY else f"got {first['input']!r}, "
            need = first["msg"].removeprefix("Value error, ").replace("Input should be", "need", 1)
            # The cause would show the value of a secret in a traceback.
            raise InputError(f"{source}: {got}{need}") from (error if got else None)
