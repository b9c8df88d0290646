"""Whatever is wrong with the input: exit 2, one line that says so, and nothing half-written."""

import json
import re
import shutil

import pytest

from pipeline.cli import main
from simile.artifacts import Manifest

GOOD = "text_a,text_b,label\nthe card,a card,1\nthe card,no shoes,0\n"
DOCUMENTS = [{"id": str(i), "text": f"card{i // 2} lost paper{i} ink{i}", "group": f"g{i // 2}"} for i in range(40)]
CONFIG = {"base": "./missing", "epochs": 1}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def pairs(*rows):
    return lines({"text_a": f"card {i}", "text_b": "shoes", **row} for i, row in enumerate(rows))


FILES = {
    "date.yaml": "seed: 2020-99-99",
    "deep.yaml": "a: " + "[" * 5000,
    "aliases.yaml": "a: &a [x, x]\nb: [" + "*a, " * 30 + "]",
    "nul.yaml": 'out: "a\\0b"',
    "documents.jsonl": lines(DOCUMENTS),
    "empty.jsonl": "",
    "broken.jsonl": '{"text": "a card"}\n{"text": "shoes"\n',
    "list.jsonl": "[1, 2]\n",
    "object.json": "{}",
    "no-text.jsonl": lines([DOCUMENTS[0], {"id": "x", "body": "text"}]),
    "blank.jsonl": lines([{"text": "  "}]),
    "twice.jsonl": lines([DOCUMENTS[0], DOCUMENTS[0]]),
    "lonely.jsonl": lines([row | {"group": row["id"]} for row in DOCUMENTS]),
    "no-group.jsonl": lines([{"text": row["text"]} for row in DOCUMENTS]),
    "latin.jsonl": b'{"text": "caf\xe9"}\n',
    "documents.xlsx": "",
    "damaged.jsonl.gz": b"\x1f\x8b\x08no gzip",
    "ragged.csv": "text,group\na card,1\nshoes\n",
    "good.csv": GOOD,
    "other/good.csv": GOOD,
    "one-class.jsonl": pairs({"label": 1}, {"label": 1}),
    "unlabelled.jsonl": pairs({}, {}),
    "negatives.jsonl": pairs({"label": 0}, {"label": 0}),
    "target.jsonl": pairs({"label": 0}, {"label": 1}),
    "nan.jsonl": pairs({"score": 0.5}, {"score": float("nan")}),
    "label-2.jsonl": pairs({"label": 0}, {"label": 2}),
    "mixed.jsonl": pairs({"label": 0}, {"score": 0.5}),
    "one-text.jsonl": lines([{"text_a": "a card", "label": 1}]),
    "config.yaml": json.dumps(CONFIG),
    "misspelt.yaml": "base: x/y\nlearning_rat: 1e-4\n",
    "misspelt-inside.yaml": "base: x/y\nlora: {rnk: 4}\n",
    "no-base.yaml": "epochs: 1\n",
    "no-mapping.yaml": "- base\n",
    "no-yaml.yaml": "base: x\nlora: {rank: 4\n",
    "latin.yaml": b"base: caf\xe9\n",
    "too-long.yaml": "base: bundled:minilm\nmax_length: 513\n",
    "loss.yaml": "base: bundled:minilm\nloss: {ranking: 1, cosin: 1}\n",
    "no-loss.yaml": "base: bundled:minilm\nloss: {}\n",
    "ranking.yaml": "base: bundled:minilm\nloss: ranking\n",
    "graded.jsonl": pairs({"score": 0.1}, {"score": 0.9}),
    "unbundled.yaml": "base: bundled:other\n",
    "revision.yaml": "base: bundled:minilm\nrevision: main\n",
    "kept.yaml": "base: x/y\nkeep: 0.9\n",
    "run.yaml": json.dumps({"documents": "documents.jsonl", "mine": {"test_share": 0.2}, "train": CONFIG}),
    "run-both.yaml": json.dumps({"documents": "documents.jsonl", "pairs": "good.csv", "train": CONFIG}),
    "run-neither.yaml": json.dumps({"train": CONFIG}),
    "run-untested.yaml": json.dumps({"documents": "documents.jsonl", "mine": {"test_share": 0}, "train": CONFIG}),
    "run-pairs-untested.yaml": json.dumps({"pairs": "good.csv", "train": CONFIG}),
    "run-gone.yaml": json.dumps({"documents": "documents.jsonl", "test": ["gone.csv"], "train": CONFIG}),
    "run-guard.yaml": json.dumps({"pairs": "good.csv", "test": ["good.csv"], "guard": ["gone.csv"], "train": CONFIG}),
    "run-same.yaml": json.dumps({"pairs": "good.csv", "test": ["good.csv", "other/good.csv"], "train": CONFIG}),
    "run-twins.yaml": json.dumps({"documents": "documents.jsonl", "mine": {"test_share": 0.2}, "train": [CONFIG] * 2}),
    "run-undecided.yaml": json.dumps(
        {
            "documents": "documents.jsonl",
            "mine": {"test_share": 0.2},
            "train": [CONFIG | {"name": method, "calibration": method} for method in ("platt", "isotonic")],
        }
    ),
    "run-misspelt.yaml": json.dumps({"documnts": "documents.jsonl", "train": CONFIG}),
    "thesis/thesis.tex": "",
    "file": "",
}


def mine(arguments):
    return f"mine {arguments} --out {{new}}/mined"


def train(config, arguments):
    return f"train {config} --pairs {arguments} --out {{new}}/bundle"


def run(arguments):
    return f"run {arguments} --set out={{new}}/run"


CASES = [
    # documents
    (mine("gone.jsonl"), "gone.jsonl: no such file"),
    (mine("empty.jsonl"), "empty.jsonl: the file is empty"),
    (mine("broken.jsonl"), "broken.jsonl:2: no JSON"),
    (mine("list.jsonl"), "list.jsonl:1: got a JSON list, need an object"),
    (mine("object.json"), "object.json: got a JSON dict, need an array"),
    (mine("no-text.jsonl"), "no-text.jsonl:2: got a document with the fields 'id', 'body', need 'text'"),
    (mine("blank.jsonl"), "blank.jsonl:1: got text ' ', need a non-empty text"),
    (mine("twice.jsonl"), "twice.jsonl:2: got id '0' a second time"),
    (mine("lonely.jsonl"), "need at least one group with two documents"),
    (mine("no-group.jsonl"), "documents without 'group' and without 'category'"),
    (mine("latin.jsonl"), "latin.jsonl:1: no valid UTF-8 at byte 13"),
    (mine("documents.xlsx"), "got a file of type '.xlsx', need one of .jsonl"),
    (mine("damaged.jsonl.gz"), "damaged gzip file"),
    (mine("ragged.csv"), "ragged.csv:3: got a row of another length"),
    (mine("documents.jsonl --column text=body"), "no column 'body'"),
    (mine("documents.jsonl --column body"), "--column: got 'body', need OURS=THEIRS"),
    (mine("documents.jsonl --band 0.5 0.1"), "need the lower end first"),
    (mine("documents.jsonl --pairs 1"), "--pairs: got '1', need greater than or equal to 2"),
    (mine("documents.jsonl --dev-share 1.5"), "--dev-share: got '1.5', need less than 1"),
    (mine("documents.jsonl --strategy best"), "--strategy: got 'best', need 'matched', 'bands' or 'curriculum'"),
    (mine("documents.jsonl --recipe bands"), "unknown option --recipe: it is now named --strategy"),
    (mine("documents.jsonl --column txt=body"), "column txt=body: got the field 'txt', need one of id, text, category"),
    (mine("documents.jsonl --band 0.1"), "--band: got 1 value, need 2"),
    (mine("documents.jsonl --pairs"), "--pairs: got no values, need 1"),
    (mine("documents.jsonl --seed 1 --seed 2"), "got --seed several times, need it once"),
    (mine("documents.jsonl --target gone.csv"), "gone.csv: no such file"),
    (mine("documents.jsonl --baseline gone"), "gone: no such bundle"),
    (
        mine("documents.jsonl --target target.jsonl --band 0.9 1"),
        "target target: got TF-IDF cosines of 0.000-0.000, need",
    ),
    (mine("documents.jsonl --target one-class.jsonl"), "target one-class: got pairs of one label only, need both"),
    (mine("documents.jsonl --band 0 1 --require"), "pairs with a TF-IDF cosine in 0-1 (matched), need"),
    (mine("documents.jsonl --strategy bands --positive-band 0 1 --negative-band 0 1 --require"), "pairs (bands), need"),
    (mine("documents.jsonl --positives gone.csv"), "gone.csv: no such file"),
    (mine("documents.jsonl --positives negatives.jsonl"), "positives negatives: got negative pairs only, need label 1"),
    (mine("documents.jsonl --target graded.jsonl"), "target graded: got graded scores, need label 0|1 or no label"),
    (mine("documents.jsonl --positives graded.jsonl"), "positives graded: got graded scores, need label 1"),
    (mine("documents.jsonl --false-negatives drop"), "got --false-negatives drop without a baseline, need --baseline"),
    (
        mine("documents.jsonl --false-negatives ignore"),
        "--false-negatives: got 'ignore', need 'drop', 'keep' or 'report'",
    ),
    (mine("documents.jsonl --format xlsx"), "--format: got 'xlsx', need 'jsonl', 'json', 'csv', 'tsv' or 'parquet'"),
    (mine("documents.jsonl --positive-band 0.5 0.1"), "need the lower end first"),
    (mine("documents.jsonl --pairs 2 --band 0 1 --baseline {words}"), "member words has no embeddings, need encoders"),
    # pairs
    (train("config.yaml", "gone.jsonl"), "gone.jsonl: no such file"),
    (train("config.yaml", "one-class.jsonl"), "all 2 pairs have the same label 1"),
    (train("config.yaml", "unlabelled.jsonl"), "got pairs without a label"),
    (train("config.yaml", "nan.jsonl"), "nan.jsonl:2: got score nan, need a finite number"),
    (train("config.yaml", "label-2.jsonl"), "label-2.jsonl:2: got label 2, need 0 or 1"),
    (train("config.yaml", "mixed.jsonl"), "mixed.jsonl:2: got a pair with score after pairs with"),
    (train("config.yaml", "one-text.jsonl"), "one-text.jsonl:1: got fields 'text_a', 'label'"),
    (train("config.yaml", "good.csv --dev gone.csv"), "gone.csv: no such file"),
    (train("config.yaml", "good.csv --dev good.csv --dev other/good.csv"), "two pair files named"),
    # configs
    (train("gone.yaml", "good.csv"), "nor a preset (minilm, mpnet, mpnet-bundled, nomic, gte, e5, gemma)"),
    (
        train("minilm", "good.csv --set preset=bert"),
        "got preset 'bert', need one of minilm, mpnet, mpnet-bundled, nomic, gte, e5, gemma",
    ),
    (train("config.yaml", "good.csv --set preset=mpnet"), "got settings with a base of their own (./missing), need"),
    (train("misspelt.yaml", "good.csv"), "'learning_rat', did you mean 'learning_rate'?"),
    (train("misspelt-inside.yaml", "good.csv"), "'lora.rnk', did you mean 'lora.rank'?"),
    (train("no-base.yaml", "good.csv"), "no-base.yaml: key 'base' is missing"),
    (train("no-mapping.yaml", "good.csv"), "got list, need a mapping of settings"),
    (train("no-yaml.yaml", "good.csv"), "no-yaml.yaml:3: no valid YAML"),
    (train("latin.yaml", "good.csv"), "latin.yaml: no valid UTF-8"),
    (train("revision.yaml", "good.csv"), "got a revision for bundled:minilm"),
    (train("config.yaml", "good.csv --set epochs"), "--set epochs: need key=value"),
    (train("config.yaml", "good.csv --set =1"), "--set =1: need key=value"),
    (train("config.yaml", "good.csv --set epochs=["), "--set epochs=[: no valid YAML value"),
    (train("config.yaml", "good.csv --set epochs=many"), "epochs: got 'many'"),
    (train("config.yaml", "good.csv --set epochs=0"), "epochs: got 0"),
    (train("config.yaml", "good.csv --set epochs=[1,-1]"), "epochs.1: got -1, need greater than or equal"),
    (train("config.yaml", "good.csv --set learning_rate=.nan"), "learning_rate: got nan"),
    (train("config.yaml", "good.csv --set base.x=1"), "base is no group of settings"),
    (train("config.yaml", "good.csv --set calibration=magic"), "calibration: got 'magic', need 'platt' or"),
    (train("config.yaml", "good.csv --set epohcs=1"), "'epohcs', did you mean 'epochs'?"),
    (train("config.yaml", "good.csv --set keep=0.9"), "unknown key 'keep': it is now named 'min_base_agreement'"),
    (train("kept.yaml", "good.csv"), "kept.yaml: unknown key 'keep': it is now named 'min_base_agreement'"),
    (train("config.yaml", "good.csv --set average_from=0.2"), "unknown key 'average_from'"),
    (train("config.yaml", "good.csv --column text=a"), "column text=a: got the field 'text', need one of text_a,"),
    (train("config.yaml", "good.csv --column score=same"), "no column 'same'"),
    # encoders
    (train("config.yaml", "good.csv"), "./missing: no such folder"),
    (train("unbundled.yaml", "good.csv"), "the bundled ones are bundled:minilm and bundled:mpnet"),
    (train("too-long.yaml", "good.csv"), "this encoder reads at most 512 tokens"),
    (run("run.yaml --set target=graded.jsonl"), "target graded: got graded scores, need label 0|1 or no label"),
    (run("run.yaml --set epochs=2"), "unknown key 'epochs', did you mean 'train.epochs'?"),
    (train("ranking.yaml", "graded.jsonl"), "got no positive pair, loss 'ranking' needs some"),
    (train("loss.yaml", "good.csv"), "loss.cosin"),
    (train("no-loss.yaml", "good.csv"), "need at least one loss (ranking, cosent,"),
    ("baseline ./missing --out {new}/bundle", "./missing: no such folder"),
    ("baseline organisation/no\tname --out {new}/bundle", "cannot load this encoder"),
    ("baseline bundled:minilm --max-length many --out {new}/bundle", "--max-length: got 'many', need a valid integer"),
    ("baseline lexical:gone.jsonl --out {new}/bundle", "gone.jsonl: no such file"),
    # outputs
    ("baseline lexical:documents.jsonl --out thesis", "thesis: holds files that are not a bundle"),
    ("baseline lexical:documents.jsonl --out file", "file: is a file or a link"),
    ("baseline lexical:documents.jsonl --out {new}/my\tbundle", "got a bundle named 'my bundle', need letters"),
    ("baseline lexical:documents.jsonl --out file/bundle", "file/bundle: cannot be written (Not a directory)"),
    ("mine documents.jsonl --out thesis", "thesis: holds files that are no mined pairs"),
    ("mine documents.jsonl --out file", "file: is a file, need a folder or a new path"),
    ("train minilm --pairs good.csv --out thesis", "thesis: holds files that are not a bundle"),
    ("join {tiny} {tiny} --out thesis", "thesis: holds files that are not a bundle"),
    # bundles
    ("inspect gone", "gone: no such bundle"),
    ("inspect file", "file: no such bundle"),
    ("inspect thesis", "thesis: not a bundle, it has no manifest.json"),
    ("inspect flipped", "flipped: members/encoder/model.onnx is damaged, got sha256"),
    ("inspect outside", "outside: the manifest lists '../flipped/members/encoder/model.onnx', need a plain path"),
    ("inspect unlisted", "unlisted: holds members/encoder/notes.txt, which its manifest does not list"),
    ("inspect linked", "linked: members/encoder/model.onnx is a link"),
    ("inspect incomplete", "members/encoder/model.onnx is listed but cannot be read (No such file or directory)"),
    ("inspect future", "got schema version 4, this Simile reads 3"),
    ("inspect altered", "altered/manifest.json: was changed, got "),
    ("inspect {tiny} --digest 00", "--digest"),
    (f"inspect {{tiny}} --digest {'0' * 64}", f"need {'0' * 64}"),
    ("inspect no-json", "no-json/manifest.json: no valid JSON"),
    ("score flipped a b", "model.onnx is damaged"),
    ("evaluate flipped good.csv", "model.onnx is damaged"),
    ("evaluate misjudged good.csv", "no valid evaluation, so remove it and evaluate again"),
    ("join {tiny} flipped --out {new}/bundle", "model.onnx is damaged"),
    ("serve flipped --port 0 --metrics-port 0", "model.onnx is damaged"),
    # evaluating, scoring, joining, serving
    ("evaluate {tiny} gone.csv", "gone.csv: no such file"),
    ("evaluate {tiny} unlabelled.jsonl", "got pairs without a label"),
    ("evaluate {tiny} good.csv other/good.csv", "got two pair files named 'good'"),
    ("evaluate {tiny} good.csv --guard other/good.csv", "got two pair files named 'good'"),
    ("evaluate {tiny} good.csv --gate", "--gate needs --baseline BUNDLE"),
    ("evaluate {tiny} good.csv --baseline gone", "gone: no such bundle"),
    ("evaluate {tiny} good.csv --guard-margin wide", "--guard-margin: got 'wide', need a valid number"),
    ("evaluate {tiny} good.csv --device cpu --precision fp16", "this machine and environment have"),
    ("evaluate {tiny} good.csv --json thesis", "thesis: is a folder, need a regular file"),
    ("evaluate {tiny} good.csv --html thesis", "thesis: is a folder, need a regular file"),
    ("evaluate {tiny} good.csv --json /dev/null", "/dev/null: is a device, need a regular file"),
    ("evaluate {tiny} good.csv --html /proc/x", "/proc/x: cannot be written ("),
    ("evaluate {tiny} good.csv --guard-margin nan", "--guard-margin: got 'nan', need a finite number"),
    ("score {tiny} a b --out thesis", "thesis: is a folder, need a regular file"),
    ("score {tiny} a b --out circle", "circle: is a symbolic link, need a regular file"),
    ("score {tiny} a b --out /dev/full/x", "/dev/full/x: cannot be written (Not a directory)"),
    (f"score {{tiny}} a b --out {'x' * 300}", "xxx: cannot be written (File name too long)"),
    ("score circle a b", "circle: no such bundle"),
    (f"score {'x' * 300} a b", "cannot be read (File name too long)"),
    ("inspect /proc", "/proc: not a bundle"),
    ("mine documents.jsonl --out circle", "circle: is a symbolic link, need a folder"),
    ("mine documents.jsonl --out /dev/null", "/dev/null: is a device, need a folder"),
    ("mine documents.jsonl --out /", "/: is read as input"),
    (mine("documents.jsonl --pairs 1000000000000"), "--pairs: got '1000000000000', need less than or equal to"),
    (mine("documents.jsonl --seed 99999999999999999999"), "need less than 4294967296"),
    ("train date.yaml --pairs good.csv --out {new}/b", "date.yaml: no valid YAML (a value that cannot be read"),
    ("train deep.yaml --pairs good.csv --out {new}/b", "deep.yaml:1: no valid YAML"),
    ("train aliases.yaml --pairs good.csv --out {new}/b", "aliases.yaml: no valid YAML (more than 20 aliases)"),
    ("run nul.yaml", "nul.yaml: no valid YAML (a NUL character)"),
    ("score {tiny}", "got 0 texts, need two texts or --pairs FILE"),
    ("score {tiny} one", "got 1 texts, need two texts or --pairs FILE"),
    ("score {tiny} a b c", "got 3 texts, need two texts or --pairs FILE"),
    ("score {tiny} a b --pairs good.csv", "need two texts or --pairs FILE"),
    ("score {tiny} a \t", "got an empty text"),
    ("score", "got no bundle, need BUNDLE or --url URL"),
    ("score --url http://localhost", "got 0 texts, need two texts or --pairs FILE"),
    ("score --url http://localhost one", "got 1 texts, need two texts or --pairs FILE"),
    ("score --url http://localhost a \t", "got an empty text"),
    ("score --url http://localhost --pairs gone.csv", "gone.csv: no such file"),
    ("score {tiny} a b --url http://localhost", "got BUNDLE and --url, need one of them"),
    ("score {tiny} --pairs good.csv --url http://localhost", "got BUNDLE and --url, need one of them"),
    ("score --url http://localhost a b --device cpu", "--prior or --verify-key together with --url"),
    ("score --url http://localhost a b --precision fp32", "--prior or --verify-key together with --url"),
    ("score --url localhost:8080 a b", "url: got 'localhost:8080', need http:// or https://"),
    ("score {tiny} --pairs one-text.jsonl", "need 'text_a' and 'text_b'"),
    ("join {tiny} --out {new}/bundle", "got 1 member in 1 bundle, need at least two"),
    ("join {tiny} {tiny} --fit one-class.jsonl --out {new}/bundle", "have the same label"),
    ("join {tiny} {tiny} --calibration isotonic --out {new}/bundle", "--calibration needs --fit PAIRS"),
    (
        "join {tiny} {tiny} --fit good.csv --calibration magic --out {new}/bundle",
        "--calibration: got 'magic', need 'platt' or 'isotonic'",
    ),
    (
        "score {tiny} a b --prior 0.1",
        "got a prior of 0.1 for a bundle without calibration, need one made with labelled",
    ),
    ("evaluate {tiny} good.csv --prior 0.1", "got a prior of 0.1 for a bundle without calibration, need one made"),
    ("score {tiny} a b --prior 1", "got a prior of 1, need a share of positives above 0 and below 1"),
    ("score {tiny} a b --prior nan", "--prior: got 'nan', need a finite number"),
    ("score {tiny} a b --prior rare", "--prior: got 'rare', need a valid number"),
    ("serve {tiny} --prior 0.1 --port 0 --metrics-port 0", "got a prior of 0.1 for a bundle without calibration"),
    ("serve {tiny} --prior 1", "--prior: got '1', need less than 1"),
    ("serve {tiny} --port eighty", "--port: got 'eighty'"),
    ("serve {tiny} --max-pairs 0", "--max-pairs: got '0'"),
    # runs
    (run("gone.yaml"), "gone.yaml: no such file"),
    (run("gone"), "gone: no such file, nor a recipe (curriculum, ensemble,"),
    (run("gone.csv"), "gone.csv: no such file"),
    (run("thesis"), "thesis/thesis.tex: "),
    (run("documents.xlsx"), "got a file with the suffix '.xlsx', need a config (.yaml, .yml) or documents (.jsonl,"),
    (run("file"), "file: got a file with the suffix '', need a config"),
    (run("file --format csv"), "file: the file is empty"),
    (run("no-group.jsonl --column text=body"), "no-group.jsonl:1: no column 'body', got 'text'"),
    (run("good.csv"), "good.csv:2: got a document with the fields"),
    (run("run.yaml --column txt=body"), "column txt=body: got the field 'txt', need one of id, text,"),
    (run("documents.jsonl --set mine.test_share=0"), "need 'test' pairs to judge on, or mine.test_share above 0"),
    (run("lora-32"), "lora-32: need exactly one of 'documents' and 'pairs' (--set documents=FILE)"),
    (
        run("run.yaml --set train=minilm --set train.preset=bert"),
        "got preset 'bert', need one of minilm, mpnet, mpnet-bundled, nomic, gte, e5, gemma",
    ),
    (run("run.yaml --set train.preset=mpnet"), "--set train.preset=mpnet: got settings with a base of their own"),
    (run("run-twins.yaml --set train.preset=mpnet"), "need the preset's name in their place"),
    (run("run.yaml --set train.epochs=[0,0,4]"), "got epochs for 3 files of pairs, need them for 1"),
    (run("run.yaml --set train.epochs=[1,-1]"), "epochs.1: got -1, need greater than or equal to 0"),
    (run("run-twins.yaml"), "got 2 members named 'encoder', need a 'name' of its own for each"),
    (run("run-twins.yaml --set train.epohcs=2"), "unknown key 'train.0.epohcs', did you mean 'train.epochs'?"),
    (run("run.yaml --set train=[]"), "train: got [], tuple should have at least 1 item"),
    (run("run.yaml"), "./missing: no such folder"),
    (run("run.yaml --set train=nothing"), "nothing: no such config file, nor a preset"),
    (run("run.yaml --set documents=gone.jsonl"), "gone.jsonl: no such file"),
    (run("run-both.yaml"), "need exactly one of 'documents' and 'pairs'"),
    (run("run-neither.yaml"), "need exactly one of 'documents' and 'pairs'"),
    (run("run-untested.yaml"), "need 'test' pairs to judge on, or mine.test_share above 0"),
    (run("run-pairs-untested.yaml"), "got 'pairs' without 'test', need labelled pairs to judge on (--set test=FILE)"),
    (run("run-gone.yaml"), "gone.csv: no such file"),
    (run("run-guard.yaml"), "gone.csv: no such file"),
    (run("run-same.yaml"), "got two pair files named 'good'"),
    (run("run.yaml --set mine.recipe=bands"), "unknown key 'mine.recipe': it is now named 'mine.strategy'"),
    (run("run.yaml --set train.keep=0"), "unknown key 'train.keep': it is now named 'train.min_base_agreement'"),
    (run("run-undecided.yaml"), "got members of calibration isotonic and platt, need one for the ensemble"),
    (run("run-misspelt.yaml"), "'documnts', did you mean 'documents'?"),
    ("quickstart --out {new}/run --set mine.pears=9", "'mine.pears', did you mean 'mine.pairs'?"),
    # usage
    ("", "need one of quickstart, run, baseline, mine, train,"),
    ("trian config.yaml", "unknown command 'trian', did you mean 'train'?"),
    ("score {tiny} a b --devise cpu", "unknown option --devise, did you mean --device?"),
    ("score {tiny} a b --device tpu", "--device: got 'tpu', need 'auto', 'cpu' or 'cuda'"),
    ("train config.yaml --out {new}/bundle", "need --pairs PAIRS (see simile train --help)"),
    ("train --pairs good.csv --out {new}/bundle", "need CONFIG.yaml"),
    ("inspect {tiny} {words}", "need no more arguments"),
    ("inspect", "need BUNDLE (see simile inspect --help)"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A folder with everything that can be wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name in ("flipped", "outside", "unlisted", "linked", "incomplete", "altered", "future", "no-json", "misjudged"):
        shutil.copytree(tiny.path, folder / name)
    model = "members/encoder/model.onnx"
    data = bytearray((folder / "flipped" / model).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "flipped" / model).write_bytes(data)
    (folder / "unlisted" / "members" / "encoder" / "notes.txt").touch()
    (folder / "circle").symlink_to("circle")
    (folder / "linked" / model).unlink()
    (folder / "linked" / model).symlink_to(tiny.path / model)
    (folder / "incomplete" / model).unlink()
    (folder / "no-json" / "manifest.json").write_text("{")
    (folder / "misjudged" / "evaluation.json").write_text("[]")
    for name, old, new in (
        ("outside", f'"{model}"', f'"../flipped/{model}"'),
        ("altered", '"name": "tiny"', '"name": "tony"'),
        ("future", 'version": 3', 'version": 4'),
    ):
        manifest = folder / name / "manifest.json"
        assert old in manifest.read_text()
        changed = manifest.read_text().replace(old, new)
        if name == "outside":
            value = json.loads(changed)
            del value["checksum"]
            changed = Manifest.model_validate(value).model_dump_json()
        manifest.write_text(changed)
    return folder


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command or "nothing" for command, _ in CASES])
def test_bad_input_ends_with_one_line_and_leaves_nothing(
    place, tiny, words, tmp_path, monkeypatch, capsys, command, message
):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    new = tmp_path / "new"
    # A tab stands for a space within an argument.
    argv = [
        word.replace("\t", " ").format(new=new, tiny=tiny.path, words=words.path) for word in command.split(" ") if word
    ]
    assert main(argv) == 2
    out, error = capsys.readouterr()
    said = error.splitlines()
    assert message in said[-1]
    assert said[-1].startswith("simile: ")
    # Besides, only how far the work has come: a stage's headline, a progress line.
    assert [line for line in said if not re.match(r"\[|(reading|embedding|mining) {10}|.*: \d+ rows?$", line)] == said[
        -1:
    ]
    assert out == ""
    assert sorted(place.rglob("*")) == before
    assert not new.exists()
