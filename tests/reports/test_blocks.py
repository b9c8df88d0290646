import pytest

from simile.reports import callout, details, examples, facts, heading, table


def test_a_column_of_numbers_is_right_aligned_and_its_gaps_are_dashes(parse):
    rows = parse(table(["name", "figure", "mixed"], [("a", 1.5, "x"), ("b", None, 2), ("c", float("nan"), 3)]))
    assert [cell.get("class") for cell in rows.iter("th")] == [None, "number", None]
    assert [[cell.text for cell in row] for row in rows.find("table/tbody")] == [
        ["a", "1.500", "x"],
        ["b", "\N{EN DASH}", "2"],
        ["c", "\N{EN DASH}", "3"],
    ]


def test_a_column_without_any_value_is_text(parse):
    assert parse(table(["a"], [(None,)])).find(".//th").get("class") is None


def test_formats_apply_to_their_column_alone(parse):
    cells = parse(table(["a", "b"], [(0.5, 0.5)], formats={"b": "+.1%"})).iter("td")
    assert [cell.text for cell in cells] == ["0.500", "+50.0%"]


def test_a_format_that_names_no_column_is_an_error():
    with pytest.raises(ValueError, match="got a format for c, need one of a, b"):
        table(["a", "b"], [], formats={"c": ".2f"})


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="got a row of 1 cells, need 2"):
        table(["a", "b"], [("only",)])


def test_a_table_without_rows_says_so(parse):
    assert parse(table(["a", "b"], [])).findtext(".//td") == "None."


def test_examples_show_both_texts_and_their_figures(parse):
    item = parse(examples("Pairs", [("one", "two", {"score": 0.25, "gap": None})])).find("ol/li")
    assert [part.text for part in item[:2]] == ["one", "two"]
    assert ["".join(badge.itertext()) for badge in item[2]] == ["score 0.250", "gap \N{EN DASH}"]


def test_no_examples_say_so(parse):
    assert parse(examples("Pairs", [])).findtext("p") == "None."


def test_facts_keep_their_order(parse):
    strip = parse(facts({"pairs": 4000, "Spearman": 0.5}))
    assert [(fact.findtext("dt"), fact.findtext("dd")) for fact in strip] == [("pairs", "4,000"), ("Spearman", "0.500")]


@pytest.mark.parametrize(("kind", "meaning"), [("good", "Good: "), ("bad", "Bad: "), ("note", "Note: ")])
def test_a_callout_names_its_kind_without_colour(parse, kind, meaning):
    assert meaning in "".join(parse(callout(kind, "text")).itertext())


def test_details_are_closed(parse):
    closed = parse(details("more", [heading("inside")]))
    assert closed.get("open") is None
    assert closed.findtext("summary") == "more"
    assert closed.findtext("div/h2") == "inside"
