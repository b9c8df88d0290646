"""Options and help of a command, and usage errors in one line: the option as it was typed, and what is needed."""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any

from cyclopts import App, Parameter, exceptions
from cyclopts.help import HelpPanel
from cyclopts.help.formatters.default import DefaultFormatter
from pydantic import BaseModel
from pydantic import ValidationError as InvalidModelError

from pipeline.commands import SUMMARIES, module_of
from pipeline.config import needed, renamed
from pipeline.options import CommandOptions, default_text, metavar, protected, spelling
from simile.errors import InputError


class _HelpFormatter(DefaultFormatter):
    """Help without what Cyclopts shows and nobody needs: flags of positional arguments, and empty defaults."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        """Print the panel, unless it lists commands: here that would be ``--help`` alone."""
        if panel.format != "command":
            entries = [entry.copy(default=entry.default or None) for entry in panel.entries]
            entries = [entry.copy(positive_names=()) if entry.positional_label else entry for entry in entries]
            super().__call__(console, options, panel.copy(entries=entries))


def parse(command: str, arguments: Sequence[str]) -> Callable[[], int]:
    """Return the call of the command with these arguments; for ``--help``, the call that prints its options."""
    module = import_module(module_of(command))
    model: type[CommandOptions] = module.Options

    def run(options: Any = None) -> int:
        return int(module.run(options))

    # Cyclopts gives None where every option has a default and none is given.
    run.__annotations__["options"] = Annotated[model | None, Parameter(name="*")]
    app = App(
        name=f"simile {command}",
        help=f"{SUMMARIES[command]}.",
        help_format="markdown",
        help_formatter=_HelpFormatter(),
        version_flags=(),
        default_parameter=Parameter(negative=(), show_default=default_text),
    )
    app.default(run)
    try:
        call, bound, _ = app.parse_args(protected(arguments, _flags(model)), exit_on_error=False, print_error=False)
        if call is not run:
            return lambda: call(*bound.args, **bound.kwargs) or 0
        (options,) = bound.args or (model(),)
    except (exceptions.CycloptsError, InvalidModelError) as error:
        raise InputError(f"{_usage_error(error, model)} (see simile {command} --help)") from error
    return partial(run, options)


def _usage_error(error: Exception, model: type[BaseModel]) -> str:
    if isinstance(error, exceptions.UnknownOptionError):
        typed = (error.token.keyword or error.token.value).partition("=")[0]
        if new := renamed(model).get(typed.removeprefix("--").replace("-", "_")):
            return f"unknown option {typed}: it is now named --{new.replace('_', '-')}"
        near = difflib.get_close_matches(typed, _flags(model), n=1)
        return f"unknown option {typed}" + (f", did you mean {near[0]}?" if near else "")
    if isinstance(error, exceptions.UnusedCliTokensError):
        return f"got {' '.join(error.unused_tokens or ())!r} as well, need no more arguments"
    if isinstance(error, exceptions.MissingArgumentError) and (argument := error.argument):
        if not error.keyword:
            return f"need {_with_value(argument.field_info.names[0], model)}"
        got, (count, _) = len(error.tokens_so_far), argument.token_count()
        return f"{error.keyword}: got {got or 'no'} value{'' if got == 1 else 's'}, need {max(count, 1)}"
    invalid = error if isinstance(error, InvalidModelError) else error.__cause__
    if isinstance(invalid, InvalidModelError):
        return _invalid(invalid, model)
    if isinstance(error, exceptions.RepeatArgumentError):
        return f"got {error.token.keyword} several times, need it once"
    if isinstance(error, exceptions.CycloptsError):
        error.verbose = False
    return str(error).rstrip(".")


def _flags(model: type[BaseModel]) -> list[str]:
    return [spelling(name, field) for name, field in model.model_fields.items()]


def _invalid(error: InvalidModelError, model: type[BaseModel]) -> str:
    """Return the first missing option, or the first value that is wrong."""
    missing = [one for one in error.errors() if one["type"] == "missing"]
    first = (missing or error.errors())[0]
    if not first["loc"]:
        return needed(first)
    name = str(first["loc"][0])
    if missing:
        return f"need {_with_value(name, model)}"
    got = "" if first["type"] == "value_error" else f"got {first['input']!r}, "
    return f"{spelling(name, model.model_fields[name])}: {got}{needed(first)}"


def _with_value(name: str, model: type[BaseModel]) -> str:
    """Return the option with the name of its value, as it stands in help."""
    field = model.model_fields[name]
    return f"{spelling(name, field)} {metavar(field)}".rstrip()
