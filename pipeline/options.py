"""How a command declares its options: one pydantic model, each option a field with its docstring.

`pipeline.usage` makes the flags of these fields, `docs.reference` the tables in docs/.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

from simile.artifacts.pairs import label_word
from simile.artifacts.rows import Format, ReadOptions
from simile.errors import InputError


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
    """Return the arguments with a mark before ``-`` and texts such as ``-5 degrees``; `CommandOptions` removes it."""

    def is_value(word: str) -> bool:
        return word == "-" or (word.startswith("-") and " " in word and word.partition("=")[0] not in flags)

    return [f"{_MARK}{word}" if is_value(word) else word for word in arguments]


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


def parse_share(flag: str, text: str) -> tuple[int, int]:
    """Return I and N of the option's value ``I/N``, which names the I-th of N shares."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"{flag}: got {text!r:.60}, need I/N with I from 1 to N, such as 1/8")
    return number, count


class ScoringOptions(CommandOptions):
    """Options of the commands that run encoders and return probabilities."""

    prior: Annotated[float | None, value("SHARE")] = None
    """Share of positives that probabilities assume (default: that of the pairs that calibration was fitted on)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that encoders run on."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Precision that encoders run in."""
    verify_key: Annotated[Path | None, value("PUBLIC.pem")] = None
    """Public key (PEM) by whose private key every bundle must be signed."""


_CHARACTERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_SIDES = ("positive", "negative")


def require_encoding(name: str | None) -> str | None:
    """Return the name of an encoding; refuse, as a validator does, one that Python does not have."""
    try:
        # Some codecs are none of texts.
        "".encode(name or "utf-8")
    except (LookupError, ValueError):
        raise PydanticCustomError("encoding", "need an encoding such as cp1252 or utf-16") from None
    return name


class TableOptions(BaseModel):
    """How documents and pairs are read: options of the commands that do so, and keys of a run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    format: Annotated[Format | None, value("FORMAT")] = None
    """Format of all files that are read: ``jsonl``, ``json``, ``csv``, ``tsv`` or ``parquet`` (default: by suffix)."""
    delimiter: Annotated[str | None, value("CHARACTER")] = None
    """Character between the columns of CSV and TSV files, also by name: ``tab``, ``semicolon``, ``comma`` or ``pipe``
    (default: comma in CSV, tab in TSV)."""
    quote: Annotated[str | None, value("CHARACTER")] = None
    """Character around cells of CSV and TSV files, or ``none`` (default: ``"`` in CSV, none in TSV)."""
    encoding: Annotated[str | None, value("NAME")] = None
    """Encoding of text files, such as ``cp1252`` or ``utf-16`` (default: UTF-8)."""
    label: Annotated[tuple[str, ...], value("SIDE=WORDS")] = ()
    """Words that are labels beside 0, 1, true and false: ``positive=duplicate,entailment``. All others are then
    negative, or only those of ``negative=WORDS`` if it is given. May be repeated."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """List these fields after those of the model that inherits them."""
        super().__pydantic_init_subclass__(**kwargs)
        ordered = sorted(cls.model_fields.items(), key=lambda item: item[0] in TableOptions.model_fields)
        cls.__pydantic_fields__ = dict(ordered)

    @field_validator("delimiter", "quote")
    @classmethod
    def _is_character(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None or (info.field_name == "quote" and name == "none"):
            return name and ""
        character = _CHARACTERS.get(name, name)
        if len(character) != 1 or character in "\r\n":
            raise PydanticCustomError("character", "need one character")
        return character

    _is_known_encoding = field_validator("encoding")(require_encoding)

    @field_validator("label", mode="before")
    @classmethod
    def _has_one_form(cls, sides: object) -> object:
        """Return the words of each side; in YAML they may be a mapping of lists."""
        if isinstance(sides, Mapping):
            return [
                f"{side}={','.join(map(str, words)) if isinstance(words, list) else words}"
                for side, words in sides.items()
            ]
        return (sides,) if isinstance(sides, str) else sides

    @field_validator("label")
    @classmethod
    def _has_sides(cls, sides: tuple[str, ...]) -> tuple[str, ...]:
        if not all(side in _SIDES and words.strip(" ,") for side, _, words in (one.partition("=") for one in sides)):
            raise PydanticCustomError("label", "need positive=WORD,WORD or negative=WORD,WORD")
        if both := cls._words(sides, "positive") & cls._words(sides, "negative"):
            raise PydanticCustomError("label", f"need each word on one side, not {min(both)!r} on both")
        return sides

    @model_validator(mode="after")
    def _delimiter_is_no_quote(self) -> Self:
        if self.delimiter and self.delimiter == self.quote:
            raise PydanticCustomError("quote", "need a delimiter that is not the quote")
        return self

    @staticmethod
    def _words(sides: tuple[str, ...], side: str) -> frozenset[str]:
        lists = [words for one, _, words in (text.partition("=") for text in sides) if one == side]
        return frozenset(label_word(word) for words in lists for word in words.split(",") if word.strip())

    @property
    def reading(self) -> ReadOptions:
        """These options as readers take them."""
        return ReadOptions(
            self.format, self.delimiter, self.quote, self.encoding, *(self._words(self.label, side) for side in _SIDES)
        )


class ColumnOption(CommandOptions, TableOptions):
    """The options of the commands that read documents or pairs."""

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


class TrainingOptions(OverrideOptions, ColumnOption):
    """Options of the commands that train one member."""

    dev: Annotated[tuple[str, ...], value("PAIRS")] = ()
    """Labelled pairs by which the best epoch and alpha are chosen: a path, ``NAME=PATH``, or a folder of mined pairs,
    for those dev sets that it has. May be repeated."""
    calibrate: Annotated[tuple[Path, ...], value("PAIRS")] = ()
    """Labelled pairs like those to be scored, on which calibration and thresholds are fitted (default: the dev sets).
    May be repeated."""
    out: Annotated[Path, value("BUNDLE")]
    """Where the bundle is written; its work folder lies beside it."""
