import json
from pathlib import Path

import pytest

from docs.schemas import SCHEMAS, schema

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_in_the_docs_is_that_of_the_model(name):
    assert (FOLDER / f"{name}.json").read_text() == schema(name), "stale schema: run `make schemas`"


def test_every_schema_in_the_docs_has_a_model():
    assert {path.stem for path in FOLDER.iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_versioned_or_holds_what_is(name):
    assert "schema_version" in json.dumps(json.loads(schema(name)))
