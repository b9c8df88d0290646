import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.artifacts import Names, group_key
from simile.artifacts.names import read_name
from simile.artifacts.reading import Row
from simile.errors import InputError

some_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
spellings = st.sampled_from(
    [str, str.casefold, lambda name: f" {name}\u200b", lambda name: name.replace("e", "&#101;")]
)


def first_names(names) -> tuple[list[str | None], list[str]]:
    known = Names("group")
    return [known.first(name) for name in names], list(known.notes())


@given(st.lists(st.tuples(some_names, spellings)))
def test_names_are_one_exactly_where_their_keys_are(table):
    names = [spelling(name) for name, spelling in table]
    firsts, _ = first_names(names)
    for name, first in zip(names, firsts, strict=True):
        assert first is None or (group_key(first) == group_key(name) and first == firsts[names.index(first)])
    by_key = {group_key(name): first for name, first in zip(names, firsts, strict=True)}
    assert firsts == [by_key[group_key(name)] for name in names]


@given(
    st.lists(st.tuples(st.integers(0, 3), spellings)), st.lists(some_names, min_size=4, max_size=4, unique_by=group_key)
)
def test_spellings_of_one_name_make_one_group(table, names):
    firsts, _ = first_names([spelling(names[number]) for number, spelling in table])
    assert len(set(firsts) - {None}) <= len({number for number, _ in table})


def test_first_spelling_is_kept_and_the_others_are_counted_with_an_example():
    firsts, notes = first_names(["Card", "card ", "17", "17.0", "card ", None, "pin"])
    assert firsts == ["Card", "Card", "17", "17", "Card", None, "pin"]
    assert notes == [
        "2 spellings of a group differ from another one only in case, white space, Unicode form or '.0', and were "
        "joined with it: 'card ' with 'Card', for example"
    ]


@pytest.mark.parametrize("name", ["nan", "NaN", "NAN", "N/A", "NA", "null", "None", " none ", "<NA>", "#N/A", "\u200b"])
def test_name_that_stands_for_a_missing_value_is_none_and_noted(name):
    firsts, notes = first_names([name, "card", name])
    assert firsts == [None, "card", None]
    assert notes == [f"2 names of a group stand for a missing value and were read as one: {name!r}, for example"]


@pytest.mark.parametrize("name", ["-", "Unknown", "n.a.", "?"])
def test_name_that_may_stand_for_a_missing_value_is_kept_and_noted(name):
    firsts, (note,) = first_names([name])
    assert firsts == [name]
    assert note.startswith(f"group {name!r} looks like a missing value")


def test_ordinary_names_have_no_note():
    assert first_names(["card", "pin", "nancy", "0", None])[1] == []


@pytest.mark.parametrize(
    ("value", "name"),
    [("a ", "a "), (7, "7"), (17.0, "17"), (-1e20, "-100000000000000000000"), (math.nan, None), (None, None)],
)
def test_value_is_read_as_a_name(value, name):
    assert read_name(Row("x:1", {"group": value}), "group") == name
    assert read_name(Row("x:1", {}), "group") is None


@pytest.mark.parametrize("value", ["", " \t", 1.5, math.inf, ["a"], {"a": 1}])
def test_other_values_are_refused(value):
    with pytest.raises(InputError, match=r"^x:1: got group .*, need a non-empty string or a whole number$"):
        read_name(Row("x:1", {"group": value}), "group")


def test_nan_of_json_is_no_name():
    assert read_name(Row("x:1", json.loads('{"group": NaN}')), "group") is None
