"""What `simile run` is given: documents, a config or a recipe, and the options of tables."""

from pathlib import Path

import pytest
import yaml

from pipeline.presets import read_train_config, recipes
from pipeline.run_config import RunConfig, read_run_config
from simile.artifacts import ReadOptions
from simile.errors import InputError
from tests.command_lines import read_options

COLUMNS = ["--column", "text=question", "--column", "group=intent"]


def config_of(*arguments: str) -> RunConfig:
    """Return the config of a command line of `simile run`."""
    options = read_options(["run", *arguments])
    return read_run_config(options.source, options.set, options)


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("questions.csv", "runs/questions"),
        ("data/questions.TSV", "runs/questions"),
        ("questions.v2.jsonl.gz", "runs/questions.v2"),
        ("/data/questions.json", "runs/questions"),
        ("questions.ndjson", "runs/questions"),
        ("questions.parquet", "runs/questions"),
    ],
)
def test_table_is_run_with_defaults(source, out):
    config = config_of(source, *COLUMNS)
    assert (config.documents, config.out) == (Path(source), Path(out))
    assert config.columns == {"text": "question", "group": "intent"}
    assert config.mine.test_share == 0.2
    assert config.train == (read_train_config("minilm"),)


@pytest.mark.parametrize("source", [".", "..", "parts", "parts/", "../folder/parts"])
def test_folder_is_run_under_its_name(tmp_path, monkeypatch, source):
    (tmp_path / "folder" / "parts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "folder")
    config = config_of(source)
    assert config.documents.samefile(source)
    assert config.out == Path("runs") / Path(source).resolve().name


def test_settings_of_documents_are_overridden_relative_to_the_current_folder():
    changes = ["out=x", "train.preset=mpnet", "target=dev.jsonl", "mine.test_share=0.1"]
    config = config_of("data/questions.csv", *(word for change in changes for word in ("--set", change)))
    assert (config.out, config.target, config.mine.test_share) == (Path("x"), Path("dev.jsonl"), 0.1)
    assert config.train == (read_train_config("mpnet"),)


def test_one_file_of_pairs_is_a_list_of_one(tmp_path):
    (tmp_path / "run.yaml").write_text("{documents: x.csv, train: minilm, dev: dev.jsonl, guard: [a.jsonl, b.jsonl]}")
    config = config_of(str(tmp_path / "run.yaml"), "--set", "calibrate=c.jsonl", "--set", "test=[t.jsonl]")
    assert (config.dev, config.guard) == ((tmp_path / "dev.jsonl",), (tmp_path / "a.jsonl", tmp_path / "b.jsonl"))
    assert (config.calibrate, config.test) == ((Path("c.jsonl"),), (Path("t.jsonl"),))


def test_file_with_another_suffix_is_documents_where_its_format_is_given():
    config = config_of("questions.txt", "--format", "csv", "--delimiter", "tab", "--quote", "none")
    assert (config.documents, config.out) == (Path("questions.txt"), Path("runs/questions.txt"))
    assert config.reading == ReadOptions("csv", "\t", "")


def test_options_of_tables_replace_a_configs_keys_and_add_columns(tmp_path):
    values = {"documents": "x.csv", "train": "minilm", "columns": {"text": "body", "group": "topic"}}
    (tmp_path / "run.yml").write_text(yaml.safe_dump(values | {"delimiter": ";", "encoding": "cp1252"}))
    config = config_of(str(tmp_path / "run.yml"), "--column", "text=question", "--delimiter", "tab")
    assert config.columns == {"text": "question", "group": "topic"}
    assert config.reading == ReadOptions(delimiter="\t", encoding="cp1252")
    assert config.documents == tmp_path / "x.csv"


def test_recipe_takes_columns_of_documents():
    config = config_of("lora-32", "--set", "documents=questions.csv", *COLUMNS)
    assert (config.documents, config.out) == (Path("questions.csv"), Path("runs/lora-32"))
    assert config.columns == {"text": "question", "group": "intent"}


def test_name_of_a_recipe_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    assert (
        config_of("full", "--set", "documents=x.csv").train[0].learning_rate
        == recipes()["full"]["train"]["learning_rate"]
    )
    assert config_of("./full").documents == Path("full")


def test_config_is_never_read_as_documents(tmp_path):
    (tmp_path / "run.yaml").write_text("documents: x.csv\ntrain: minilm\n")
    assert config_of(str(tmp_path / "run.yaml"), "--format", "csv").documents == tmp_path / "x.csv"
    with pytest.raises(InputError, match=r"gone\.yml: no such file$"):
        config_of("gone.yml", "--format", "csv")


def test_test_pairs_are_held_out_unless_some_are_given(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("documents: x.csv\ntrain: minilm\nmine: {pairs: 50}\n")
    config = read_run_config(path)
    assert (config.mine.pairs, config.mine.test_share) == (50, 0.2)
    assert read_run_config(path, ["mine.test_share=0", "test=[y.csv]"]).mine.test_share == 0
    with pytest.raises(InputError, match=r"need 'test' pairs to judge on, or mine\.test_share above 0"):
        read_run_config(path, ["mine.test_share=0"])
