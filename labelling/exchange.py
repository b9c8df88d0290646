"""Pairs and answers in the formats of other labelling tools: Label Studio, Argilla 2, and spreadsheets.

Label Studio reads a JSON array of tasks, and exports the same array with ``annotations``: each has ``completed_by`` (an
id, or an object with ``email``), ``was_cancelled`` for a skipped task, ``lead_time`` in seconds, and ``result``, whose
items of the type ``choices`` have ``value.choices`` (https://labelstud.io/guide/task_format,
https://labelstud.io/tags/choices).

Argilla 2 exports a record as ``id``, ``fields``, ``metadata`` and ``responses``, which holds a list of ``value`` and
``user_id`` per question (https://docs.argilla.io/latest/how_to_guides/import_export; ``Record.to_dict`` of
argilla-io/argilla). With ``flatten=True``, fields and metadata are columns, and ``answer.responses``,
``answer.responses.users`` and ``answer.responses.status`` are lists. A status is draft, submitted or discarded.

A cell of a spreadsheet that begins with one of ``= + - @``, a tab or a line break would be computed as a formula
(https://owasp.org/www-community/attacks/CSV_Injection); an apostrophe is put before it, and taken away again on import.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from labelling.answers import Answer, Choice
from simile.artifacts import ReadOptions, SampledPair, open_source
from simile.artifacts.json_file import read_json
from simile.errors import InputError

Tool = Literal["label-studio", "argilla", "csv"]
QUESTION = "answer"
"""Name of the question, and of the column of a spreadsheet."""
CHOICES: tuple[str, ...] = ("same", "different", "unsure")
LABEL_STUDIO_CONFIG = f"""\
<View>
  <Header value="Do these two texts mean the same?"/>
  <Text name="text_a" value="$text_a"/>
  <Text name="text_b" value="$text_b"/>
  <Choices name="{QUESTION}" toName="text_b" choice="single" required="true">
    <Choice value="same" hotkey="1"/>
    <Choice value="different" hotkey="2"/>
    <Choice value="unsure" hotkey="3"/>
  </Choices>
</View>
"""
ARGILLA_SETTINGS = f"""\
rg.Settings(
    fields=[rg.TextField(name="text_a"), rg.TextField(name="text_b")],
    questions=[rg.LabelQuestion(name="{QUESTION}", labels=["same", "different", "unsure"])],
    metadata=[rg.TermsMetadataProperty("stratum"), rg.FloatMetadataProperty("inclusion_probability")],
)
"""
_BOM = "\ufeff"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLUMNS = ("text_a", "text_b", QUESTION, "annotator", "note", "stratum", "inclusion_probability")
_Record = Mapping[str, Any]


def exported(pairs: Sequence[SampledPair], tool: Tool) -> str:
    """Return the content of the file that the tool reads. Scores are not exported: nobody should see one first."""
    if tool == "csv":
        return _csv(pairs)
    records = [_task(pair) if tool == "label-studio" else _record(pair) for pair in pairs]
    return json.dumps(records, ensure_ascii=False, indent=1) + "\n"


def imported(path: Path, tool: Tool, *, time: str, annotator: str = "", options: ReadOptions) -> tuple[Answer, ...]:
    """Return the answers of the tool's file.

    Args:
        path: the file.
        tool: which tool has written it.
        time: when the answers were given, in ISO 8601, where the file does not say it.
        annotator: name of the person where the file has none.
        options: how a spreadsheet's file is read.

    Raises:
        InputError: the file is not one of the tool's exports, or an answer is unknown.
    """
    usual = {"time": time, "annotator": annotator}
    if tool == "csv":
        given = list(_from_csv(path, options))
    else:
        read = _from_task if tool == "label-studio" else _from_record
        records = read_json(path)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise InputError(f"{path}: got no array of records, need the JSON that {tool} exports")
        numbered = ((f"{path}: record {number}", record) for number, record in enumerate(records, start=1))
        given = [(where, one) for where, record in numbered for one in _read_record(record, read, where)]
    known = ((where, {name: value for name, value in values.items() if value is not None}) for where, values in given)
    return tuple(_answer(where, usual | values) for where, values in known)


def _read_record(
    record: _Record, read: Callable[[_Record], Iterable[dict[str, Any]]], where: str
) -> list[dict[str, Any]]:
    try:
        return list(read(record))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _answer(where: str, values: _Record) -> Answer:
    """Return the answer of these values, or raise an `InputError` that names what is wrong."""
    for name in ("text_a", "text_b"):
        if not isinstance(values.get(name), str) or not values[name]:
            raise InputError(f"{where}: got no {name}, need the two texts of a pair")
    choice = str(values.get(QUESTION)).strip().lower()
    if choice not in get_args(Choice) or choice == "undone":
        raise InputError(f"{where}: got the answer {choice!r:.60}, need one of {', '.join((*CHOICES, 'skip'))}")
    if not values["annotator"]:
        raise InputError(f"{where}: got no annotator, need --annotator NAME")
    key = SampledPair(values["text_a"], values["text_b"]).key
    try:
        return Answer.model_validate({**values, "pair": key, QUESTION: choice})
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def _design(pair: SampledPair) -> dict[str, Any]:
    """Return how the pair came into the sample."""
    stratum = {} if pair.stratum is None else {"stratum": pair.stratum}
    return {**stratum, "inclusion_probability": pair.inclusion_probability}


def _of_design(values: _Record) -> dict[str, Any]:
    return {name: values[name] for name in ("stratum", "inclusion_probability", "part") if values.get(name) is not None}


def _task(pair: SampledPair) -> dict[str, Any]:
    return {"data": {"text_a": pair.text_a, "text_b": pair.text_b, **_design(pair)}}


def _from_task(task: _Record) -> Iterator[dict[str, Any]]:
    """Yield the values of each annotation of a Label Studio task."""
    data = _mapping(task.get("data"))
    for annotation in map(_mapping, _list(task.get("annotations"))):
        chosen = [
            choice
            for item in map(_mapping, _list(annotation.get("result")))
            if item.get("type") == "choices" and item.get("from_name") == QUESTION
            for choice in _list(_mapping(item.get("value")).get("choices"))
        ]
        if not chosen and not annotation.get("was_cancelled"):
            continue
        by = annotation.get("completed_by")
        by = by.get("email") or by.get("id") if isinstance(by, dict) else by
        yield {
            **{name: data.get(name) for name in ("text_a", "text_b")},
            **_of_design(data),
            QUESTION: "skip" if annotation.get("was_cancelled") else chosen[0],
            "annotator": None if by is None else str(by),
            "time": annotation.get("created_at"),
            "seconds": annotation.get("lead_time"),
        }


def _record(pair: SampledPair) -> dict[str, Any]:
    return {"id": pair.key, "fields": {"text_a": pair.text_a, "text_b": pair.text_b}, "metadata": _design(pair)}


def _from_record(record: _Record) -> Iterator[dict[str, Any]]:
    """Yield the values of each response of an Argilla record, nested or flattened; drafts are no answers yet."""
    nested = "fields" in record
    fields, metadata = (
        (_mapping(record.get("fields")), _mapping(record.get("metadata"))) if nested else (record, record)
    )
    if nested:
        responses = _list(_mapping(record.get("responses")).get(QUESTION))
    else:
        names = ("responses", "responses.users", "responses.status")
        columns = [_list(record.get(f"{QUESTION}.{name}")) for name in names]
        if len(set(map(len, columns))) > 1:
            raise ValueError(f"got {', '.join(names)} of different lengths, need one of each per response")
        responses = [
            {"value": value, "user_id": user, "status": status} for value, user, status in zip(*columns, strict=True)
        ]
    for response in map(_mapping, responses):
        if response.get("status") != "draft":
            is_discarded = response.get("status") == "discarded"
            yield {
                **{name: fields.get(name) for name in ("text_a", "text_b")},
                **_of_design(metadata),
                QUESTION: "skip" if is_discarded else response.get("value"),
                "annotator": response.get("user_id"),
            }


def _csv(pairs: Sequence[SampledPair]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for pair in pairs:
        cells = (pair.text_a, pair.text_b, "", "", "", pair.stratum or "", str(pair.inclusion_probability))
        writer.writerow(map(_guarded, cells))
    # By the mark at the beginning, Excel recognises UTF-8.
    return _BOM + buffer.getvalue()


def _from_csv(path: Path, options: ReadOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the values of each row with an answer."""
    with open_source(path, ReadOptions("csv", options.delimiter, options.quote, options.encoding)) as source:
        for row in source.rows():
            if missing := [name for name in ("text_a", "text_b", QUESTION) if name not in row.fields]:
                raise InputError(f"{row.where}: got no column {missing[0]!r}, need {', '.join(_COLUMNS[:3])}")
            values = {name: _unguarded(row.fields.get(name)) for name in _COLUMNS}
            if values[QUESTION]:
                yield row.where, {name: value for name, value in values.items() if value is not None}


def _guarded(cell: str) -> str:
    # An apostrophe of the text itself is guarded as well, so that import can always take one away.
    return f"'{cell}" if cell.startswith((*_FORMULA, "'")) else cell


def _unguarded(cell: str | None) -> str | None:
    return cell.removeprefix("'") if cell else None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise ValueError(f"got {value!r:.60}, need a list")
    return value or []


def _mapping(value: Any) -> _Record:
    return value if isinstance(value, dict) else {}
