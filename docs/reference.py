"""The option tables of the documents: `python -m docs.reference` writes them into cli.md and settings.md."""

import types
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.commands import SUMMARIES, module_of
from pipeline.options import default_text, metavar, spelling
from pipeline.run_config import RunConfig, RunMineConfig
from serving.settings import ENVIRONMENT_ONLY, Settings, variable
from training.config import TrainConfig

_BEGIN, _END = "<!-- generated: begin -->", "<!-- generated: end -->"


def cli_tables() -> str:
    """Return a section for each command with the table of its options."""
    sections = []
    for command, summary in SUMMARIES.items():
        model: type[BaseModel] = import_module(module_of(command)).Options
        sections.append(f"## `simile {command}`\n\n{summary}.\n\n{_options_table(model)}")
    return "\n\n".join(sections)


def settings_tables() -> str:
    """Return the tables of the YAML keys and of the service's variables."""
    titles = {
        "Keys of `simile run`": _keys_table(RunConfig, "", inner=False),
        "Keys of `mine`": _keys_table(RunMineConfig, "mine."),
        "Keys of `train`, and of a config of `simile train`": _keys_table(TrainConfig, ""),
        "Variables of `simile serve`": _variables_table(),
    }
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in titles.items())


def _options_table(model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        environment = str(extra.get("environment", ""))
        typed = spelling(name, field)
        shown = typed if field.annotation is bool or not typed.startswith("-") else f"{typed} {_metavar(field)}"
        default = "required" if field.is_required() else _code(default_text(extra.get("default", field.default)))
        rows.append(
            (_code(shown), default, _code(environment), str(field.description).removesuffix(f" ({environment})"))
        )
    return _table(("Option", "Default", "Variable", "Meaning"), rows)


def _keys_table(model: type[BaseModel], group: str, *, inner: bool = True) -> str:
    return _table(("Key", "Type", "Default", "Meaning"), _keys(model, group, inner=inner))


def _keys(model: type[BaseModel], group: str, *, inner: bool) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if inner and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{group}{name}.", inner=True)
            continue
        default = field.get_default(call_default_factory=True)
        shown = (
            "required"
            if field.is_required()
            else ""
            if isinstance(default, BaseModel)
            else _code(default_text(default))
        )
        yield _code(group + name), type_text(annotation), shown, str(field.description)


def _variables_table() -> str:
    rows = [
        (
            _code(variable(name)),
            type_text(field.annotation),
            _code(default_text(field.default)),
            f"{field.description}{' No option of the command line.' if name in ENVIRONMENT_ONLY else ''}",
        )
        for name, field in Settings.model_fields.items()
    ]
    return _table(("Variable", "Type", "Default", "Meaning"), rows)


def _metavar(field: FieldInfo) -> str:
    """Return the name of the option's value: its own, the choices, or the type as help shows it."""
    if own := metavar(field):
        return own
    text = type_text(field.annotation).replace("`", "")
    if ", " in text:
        return f"{{{text.replace(', ', ',')}}}"
    return text.replace("integer", "INT").replace("number", "FLOAT").replace("path", "PATH")


def type_text(annotation: Any) -> str:
    """Return the type in words, such as ``integer`` or ``list of paths``, or the choices."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(one) for one in inner if one is not type(None)))
    if origin is Literal:
        return ", ".join(_code(str(one)) for one in inner)
    if origin is tuple:
        return f"list of {type_text(inner[0])}s" if inner[-1] is ... else " ".join(map(type_text, inner))
    if origin is dict:
        return f"mapping of {type_text(inner[0])} to {type_text(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "group"
    names = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", Path: "path"}
    return names.get(annotation, "text")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table, without the columns that are empty in every row."""
    rows = list(rows)
    used = [i for i in range(len(header)) if any(row[i] for row in rows)]
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(line[i]) for i in used)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def with_tables(page: str, tables: str) -> str:
    """Return the page with the tables in place of what stands between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"need the lines {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n\n{tables}\n\n{_END}{after}"


TABLES = {"cli.md": cli_tables, "settings.md": settings_tables}
"""What fills each page."""


def main(folder: Path) -> None:
    """Write the tables into the folder's pages."""
    for name, tables in TABLES.items():
        page = folder / name
        page.write_text(with_tables(page.read_text(encoding="utf-8"), tables()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
