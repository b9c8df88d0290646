import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from simile.artifacts import Pair
from simile.scoring.metrics import spearman

HARNESS = Path(__file__).parent.parent / "benchmarks" / "harness.py"


@pytest.fixture
def parser(monkeypatch):
    """Returns the parser of the benchmarks with SIMILE_DATA set to the given value."""
    spec = importlib.util.spec_from_file_location("harness", HARNESS)
    harness = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(harness)

    def made(data):
        monkeypatch.setenv("SIMILE_DATA", data)
        return harness.parser_of(None, ["clinc150"])

    return made


def test_corpora_lie_where_the_option_or_the_environment_says(parser):
    assert parser("corpora").parse_args([]).data == Path("corpora")
    assert parser("corpora").parse_args(["--data", "others"]).data == Path("others")


def test_corpora_lie_nowhere_by_default(parser, capsys):
    with pytest.raises(SystemExit):
        parser("").parse_args([])
    assert "the following arguments are required: --data" in capsys.readouterr().err


def test_simulated_pairs_of_the_gate_have_the_merit_and_the_structure_they_should(monkeypatch):
    monkeypatch.syspath_prepend(HARNESS.parent)
    simulation = importlib.import_module("gate_simulation")
    pairs, bundle_P, baseline_P = simulation.draw(200, 0.1, 0.5, np.random.default_rng(0))
    assert len(pairs.rows) == 200 * simulation.PAIRS_PER_GROUP
    assert [row.label for row in pairs.rows] == [int(row.group_a == row.group_b) for row in pairs.rows]
    assert pairs.target_P.mean() == 0.5
    assert all(row.text_a != row.text_b for row in pairs.rows)
    better, baseline = (spearman(score_P, pairs.target_P) for score_P in (bundle_P, baseline_P))
    assert baseline == pytest.approx(simulation.BASELINE, abs=0.1)
    assert better - baseline == pytest.approx(0.1, abs=0.04)


def test_samples_of_the_traffic_stand_for_all_of_it_and_are_dense_around_the_threshold(monkeypatch):
    monkeypatch.syspath_prepend(HARNESS.parent)
    weights = importlib.import_module("label_weights")
    rng = np.random.default_rng(0)
    traffic = weights.Traffic(rng.beta(2, 5, 4000), rng.integers(0, 2, 4000).astype(float))
    drawn_N, inclusion_N = weights.draw(traffic, 0.3, rng)
    assert len(set(drawn_N)) == len(drawn_N) == weights.SAMPLED
    assert (1 / inclusion_N).sum() == pytest.approx(4000)
    assert 0 < inclusion_N.min() < inclusion_N.max() <= 1
    num_S = np.bincount(traffic.strata[drawn_N], minlength=weights.STRATA)
    near = traffic.strata[np.abs(traffic.score_P - 0.3).argmin()]
    assert num_S[near] == pytest.approx(weights.TIMES * num_S.min(), rel=0.1)


def test_pairs_drawn_for_the_labels_needed_lie_within_and_between_groups_that_were_drawn(monkeypatch):
    monkeypatch.syspath_prepend(HARNESS.parent)
    benchmark = importlib.import_module("label_power")
    names = [(f"g{a}", f"g{b}") for a in range(150) for b in (a, (a + 1) % 150) for _ in range(4)]
    rows = [Pair(f"a{i}", f"b{i}", label=int(a == b), group_a=a, group_b=b) for i, (a, b) in enumerate(names)]
    rng = np.random.default_rng(0)
    baseline_P, bundle_P = (np.array([row.label + rng.normal() for row in rows], dtype=np.float32) for _ in range(2))
    population = benchmark.Population(rows, baseline_P, bundle_P)
    pairs, index_P = benchmark.of_groups(population)(40, rng)
    assert pairs.target_P.mean() == 0.5
    assert all((row.group_a == row.group_b) == bool(row.label) for row in pairs.rows)
    assert len({end for pair in pairs.ends for end in pair}) <= benchmark.GROUPS
    assert [row.text_a for row in pairs.rows] == [rows[i].text_a for i in index_P]
    gain = spearman(population.moved(0.05), population.label_P) - spearman(baseline_P, population.label_P)
    assert gain == pytest.approx(0.05, abs=0.002)
    pairs, index_P = benchmark.of_texts(population)(40, rng)
    assert not pairs.have_groups
    assert len(set(index_P.tolist())) == 40


NUM_GROUPS, NUM_DOCUMENTS = 6, 5


@pytest.fixture
def curve(monkeypatch):
    """The module of the learning curve, which imports its neighbours by their bare names."""
    monkeypatch.syspath_prepend(HARNESS.parent)
    return importlib.import_module("learning_curve")


@pytest.fixture
def corpus():
    """A corpus of six groups in two categories, and held-out sets with a pair of each two groups."""
    documents = [
        {"text": f"text {number} of {group}", "group": f"g{group}", "category": f"c{group % 2}"}
        for group in range(NUM_GROUPS)
        for number in range(NUM_DOCUMENTS)
    ]
    pairs = [
        {"text_a": f"a {a}", "text_b": f"b {b}", "label": int(a == b), "group_a": f"g{a}", "group_b": f"g{b}"}
        for a in range(NUM_GROUPS)
        for b in range(NUM_GROUPS)
    ]
    unseen = [{**pair, "group_a": f"u{pair['group_a']}", "group_b": f"u{pair['group_b']}"} for pair in pairs]
    return {"corpus": documents, "dev": pairs, "test-seen": pairs, "test-unseen": unseen}


def groups_of(rows):
    return {row[key] for row in rows for key in ("group", "group_a", "group_b") if key in row}


def test_a_cut_to_documents_per_group_keeps_all_groups_and_pairs(curve, corpus):
    cut = curve.cut(corpus, curve.Point("", per_group=2))
    assert sorted(row["group"] for row in cut["corpus"]) == sorted(2 * list(groups_of(corpus["corpus"])))
    assert [cut[name] for name in ("dev", "test-seen", "test-unseen")] == [corpus["dev"]] * 2 + [corpus["test-unseen"]]


def test_a_cut_to_groups_keeps_the_pairs_whose_groups_both_remain(curve, corpus):
    cut = curve.cut(corpus, curve.Point("", groups=3))
    assert len(groups_of(cut["corpus"])) == 3
    assert len(cut["corpus"]) == 3 * NUM_DOCUMENTS
    assert len(cut["dev"]) == len(cut["test-seen"]) == 3 * 3
    assert groups_of(cut["dev"]) == groups_of(cut["test-seen"]) == groups_of(cut["corpus"])
    assert cut["test-unseen"] == corpus["test-unseen"]


def test_a_cut_to_a_category_keeps_its_groups(curve, corpus):
    cut = curve.cut(corpus, curve.Point("", category="c1"))
    assert groups_of(cut["corpus"]) == groups_of(cut["dev"]) == {"g1", "g3", "g5"}


def test_a_smaller_cut_is_part_of_a_larger_one(curve, corpus):
    texts = [
        {row["text"] for row in curve.cut(corpus, point)["corpus"]}
        for point in (curve.Point("", 1, 2), curve.Point("", 2, 2), curve.Point("", 2, 4), curve.Point(""))
    ]
    assert [len(of_cut) for of_cut in texts] == [2, 4, 8, NUM_GROUPS * NUM_DOCUMENTS]
    assert texts[0] < texts[1] < texts[2] < texts[3]


def test_a_set_that_lacks_a_class_after_the_cut_is_left_out(curve, corpus):
    assert list(curve.cut(corpus, curve.Point("", groups=1))) == ["corpus", "test-unseen"]
    assert list(curve.cut({**corpus, "dev": []}, curve.Point(""))) == ["corpus", "test-seen", "test-unseen"]


def test_labelled_pairs_hold_each_anchor_once_per_class_and_no_other_document_twice(curve, corpus):
    sets = curve.cut(corpus, curve.Point("", pairs=8))
    assert list(sets) == ["pairs", "test-seen", "test-unseen"]
    group_of = {row["text"]: row["group"] for row in corpus["corpus"]}
    pairs = sets["pairs"]
    assert [pair["label"] for pair in pairs] == 4 * [1, 0]
    assert all(pair["label"] == (group_of[pair["text_a"]] == group_of[pair["text_b"]]) for pair in pairs)
    assert [pair["text_a"] for pair in pairs[::2]] == [pair["text_a"] for pair in pairs[1::2]]
    assert len({text for pair in pairs for text in (pair["text_a"], pair["text_b"])}) == 4 + len(pairs)


def test_the_helpdesk_sample_is_held_out_by_groups_and_documents(curve, monkeypatch):
    # Drawing fewer pairs takes less time.
    monkeypatch.setattr("sample_corpus.PAIRS", 400)
    sets = curve.load("helpdesk", Path("nowhere"))
    texts = {
        name: {row[side] for row in rows for side in ("text", "text_a", "text_b") if side in row}
        for name, rows in sets.items()
    }
    assert len(set.union(*texts.values())) == sum(map(len, texts.values()))
    assert groups_of(sets["dev"]) | groups_of(sets["test-seen"]) <= groups_of(sets["corpus"])
    assert not groups_of(sets["test-unseen"]) & groups_of(sets["corpus"])
    assert all({row["label"] for row in sets[name]} == {0, 1} for name in ("dev", "test-seen", "test-unseen"))


def result(simile):
    figures = {"pairs": 9, "untouched": 0.5, "peer": 0.6, "simile": simile}
    figures["difference"] = {"spearman": simile - 0.6, "low": -0.1, "high": 0.3}
    return {
        "commit": "abc",
        "machine": "a processor, 2 cores",
        "documents": 1000,
        "groups": 100,
        "tiers": {"target": 4000, "matched": 20, "group": 0},
        "steps": 130,
        "seconds": {"mine": 6, "train": 120, "peer": 60},
        "sets": {"test-seen": figures, "test-unseen": figures, "stsb": figures},
    }


def test_a_point_with_a_result_is_not_measured_again(curve, tmp_path, monkeypatch):
    results = tmp_path / "learning-curve"
    results.mkdir()
    for seed, simile in enumerate((0.7, 0.8)):
        (results / f"dstc11-seed-{seed}.json").write_text(json.dumps(result(simile)))
    options = ["--data", "nowhere", "--results", str(tmp_path), "--out", str(tmp_path / "results.md")]
    monkeypatch.setattr("sys.argv", ["learning_curve.py", "--points", "dstc11", "--seeds", "2", *options])
    # Measuring would fail, as there is no corpus.
    curve.main()
    lines = (tmp_path / "results.md").read_text().splitlines()
    cell = "0.500, 0.600, **0.750**; +0.150 [-0.100, +0.300]"
    assert "Commit abc, on a processor, 2 cores:" in lines
    assert f"| dstc11 | 1,000 | 100 | 2 | {cell} | {cell} | {cell} |" in lines
    assert "| dstc11 | 4,000 | 20 | 0 | 130 | 0.1 | 2.0 | 1.0 |" in lines
    assert not (tmp_path / "images").exists()


def test_the_picture_has_a_curve_per_encoder_and_needs_no_page(curve, tmp_path):
    names = ("clinc150-3-per-group", "clinc150-100-per-group", "clinc150-10-groups")
    curve.write_section(tmp_path / "results.md", {name: [result(0.7)] for name in names})
    drawing = ElementTree.parse(tmp_path / "images" / "learning-curve.svg").getroot()
    charts = list(drawing.iter("{http://www.w3.org/2000/svg}svg"))[1:]
    assert len(charts) == 4
    for chart in charts:
        assert sum(mark.get("class") == "curve" for mark in chart.iter()) == 3
    assert "var(" not in (tmp_path / "images" / "learning-curve.svg").read_text()
    assert "(images/learning-curve.svg)" in (tmp_path / "results.md").read_text()


@pytest.fixture
def st_train(monkeypatch):
    """The module of the peer's training."""
    monkeypatch.syspath_prepend(HARNESS.parent)
    return importlib.import_module("st_train")


# Both load torch.
@pytest.mark.slow
@pytest.mark.parametrize(("num", "expected"), [(None, 3 * NUM_GROUPS * NUM_DOCUMENTS), (7, 7)])
def test_the_peer_draws_three_positives_per_document_unless_told(
    st_train, corpus, tmp_path, monkeypatch, num, expected
):
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in corpus["corpus"]))
    asked = []

    def draw(documents, num, rng):
        asked.append(num)
        return [("a", "b")]

    monkeypatch.setattr(st_train, "draw_positives", draw)
    assert st_train.from_documents(file, [], num, 0).loss == "MultipleNegativesRankingLoss"
    assert asked == [expected]


@pytest.mark.slow
def test_the_peer_trains_on_labelled_pairs_by_cosent(st_train, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"text_a": "a", "text_b": "b", "score": 2.5}\n{"text_a": "c", "text_b": "d", "score": 4}\n')
    recipe = st_train.from_pairs(file)
    assert (recipe.loss, recipe.learning_rate, recipe.epochs) == ("CoSENTLoss", 2e-5, 3)
    assert recipe.columns == {"sentence1": ("a", "c"), "sentence2": ("b", "d"), "label": [2.5, 4.0]}
