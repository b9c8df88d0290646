"""How a command declares its options: one pydantic model, each option a field with its docstring.

`pipeline.usage` makes the flags of these fields, `docs.reference` the tables in docs/.
"""

from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def named(name: str) -> Parameter:
    """Return the mark of an argument without a flag, by its name in help, or of a flag not named like its field."""
    return Parameter(name=name)


def value(metavar: str, *, many: bool = False, default: str | None = None) -> Parameter:
    """Return the mark of an option whose value help shows by this name, with ``default`` in place of the field's own.

    With ``many``, one flag takes all the values that follow it; otherwise each value has a flag of its own.
    """
    shown = default_text if default is None else lambda _: default
    return Parameter(metavar=metavar, consume_multiple=many, show_default=shown)


def spelling(name: str, field: FieldInfo) -> str:
    """Return what a user types for the field: its flag, or the name of a positional argument."""
    names = [next(iter(mark.name)) for mark in field.metadata if isinstance(mark, Parameter) and mark.name]
    return names[0] if names else "--" + name.replace("_", "-")


def metavar(field: FieldInfo) -> str:
    """Return the name that the field declares for its value; empty where it declares none."""
    return next((mark.metavar for mark in field.metadata if isinstance(mark, Parameter) and mark.metavar), "")


def default_text(default: object) -> str:
    """Return how help and documents show the default; nothing where it goes without saying."""
    if default is PydanticUndefined or default is None or default is False or default in ((), "", {}):
        return ""
    if isinstance(default, BaseModel):
        default = default.model_dump()
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


_MARK = "\0"


def protected(arguments: Iterable[str], flags: Collection[str]) -> list[str]:
    """Return the arguments with a mark before texts such as ``-5 degrees``; `CommandOptions` removes it."""
    return [
        f"{_MARK}{word}" if word.startswith("-") and " " in word and word.partition("=")[0] not in flags else word
        for word in arguments
    ]


class CommandOptions(BaseModel):
    """The options of one command."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make every field a flag that is not marked as positional; list positional and own fields first."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            field.kw_only = spelling(name, field).startswith("-")
        inherited = set(cls.model_fields).difference(cls.__annotations__)
        ordered = sorted(cls.model_fields.items(), key=lambda item: (bool(item[1].kw_only), item[0] in inherited))
        cls.__pydantic_fields__ = dict(ordered)

    @model_validator(mode="before")
    @classmethod
    def _unprotected(cls, values: Any) -> Any:
        def bare(value: Any) -> Any:
            if isinstance(value, str):
                return value.removeprefix(_MARK)
            return [*map(bare, value)] if isinstance(value, list | tuple) else value

        return {name: bare(value) for name, value in values.items()} if isinstance(values, dict) else values


class OverrideOptions(CommandOptions):
    """Options of the commands that read a config and can resume."""

    set: Annotated[tuple[str, ...], value("KEY=VALUE")] = ()
    """Override a setting of the config, such as ``seed=3`` (in a run ``train.seed=3``); the value is read as YAML. May
    be repeated."""
    restart: bool = False
    """Delete the work of an earlier run and begin again."""


class ScoringOptions(CommandOptions):
    """Options of the commands that run encoders and return probabilities."""

    prior: Annotated[float | None, value("SHARE")] = None
    """Share of positives that probabilities assume (default: that of the pairs that calibration was fitted on)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that encoders run on."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision that encoders run in."""


class ColumnOption(CommandOptions):
    """The option of the commands that read documents or pairs."""

    column: Annotated[tuple[str, ...], value("OURS=THEIRS")] = ()
    """Read the file's column THEIRS as our field OURS, such as ``text=body`` of documents or ``text_a=question`` of
    pairs. A file of pairs that has OURS and no THEIRS is read by OURS. May be repeated."""

    @field_validator("column")
    @classmethod
    def _has_both_sides(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for column in columns:
            ours, _, theirs = column.partition("=")
            if not ours or not theirs:
                raise ValueError(f"got {column!r}, need OURS=THEIRS, such as text=body")
        return columns

    @property
    def columns(self) -> dict[str, str]:
        """The file's column name by our field name."""
        return dict(column.split("=", 1) for column in self.column)
