import json
from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from simile.artifacts import (
    Combine,
    EncoderMember,
    GoldenPair,
    IsotonicCalibration,
    LexicalMember,
    Manifest,
    PlattCalibration,
    Thresholds,
    file_entry,
    model_card,
)
from tests.evaluation_reports import evaluation_report

NASTY = "a | b *c* _d_ `e` <script>f</script> [g](h) $$i$$ \\( j\n# k &amp; ~~l~~"
FOUND = {"spearman": 0.7, "auc": 0.9, "separability": 0.3, "overlap": 0.4}
HELD = {"spearman": 0.5, "auc": 0.8, "separability": 0.2, "overlap": 0.6}
DIFFERENCE = {"spearman": 0.2, "low": 0.125, "high": 0.25}


def trained_with(config):
    run = {"config": config, "base": None, "version": "1", "pairs": [], "dev": {}, "calibration": []}
    return {"by": "simile train", "run": run, "seed": 7, "texts": "f00d"}


def manifest_of(*, base="someone/encoder", prompt="", made=None, **changed):
    file = file_entry("members/x", b"x")
    encoder = EncoderMember(
        name="small", model=file, tokenizer=file, base=base, revision="abc", pooling="mean",
        prompt=prompt, max_length=64, pad_id=0, dimension=8,
    )  # fmt: skip
    return Manifest(
        name="my_bundle",
        members=(encoder, LexicalMember(name="words", vocabulary=file, dimension=3)),
        combine=Combine(weights={"small": 0.75, "words": 0.25}),
        golden=(GoldenPair(text_a="a", text_b="b", scores={"small": 0.5, "words": 0.5}),),
        made=made or {"by": "simile join", "of": [], "fitted_on": None, "texts": None},
        **changed,
    )


def report_of(*, name="test-seen", baseline=True, verdict="pass", precision="fp32", figures=FOUND, **changed):
    compared = {
        "pairs": 4000,
        "sha256": "0" * 64,
        "graded": False,
        "bundle": figures,
        "baseline": HELD if baseline else None,
        "difference": DIFFERENCE if baseline else None,
        "lexical": {"spearman": 0.01},
    }
    runtime = {"provider": "CPUExecutionProvider", "precision": precision}
    return evaluation_report(
        bundle=runtime,
        baseline={"name": "base", "digest": "0" * 64, **runtime} if baseline else None,
        sets={name: compared},
        guards={"general": {**compared, "bundle": {"spearman": None}}} if baseline else {},
        leaked_texts={name: 0},
        verdict=verdict,
        reasons=[f"{name}: low end +0.1250"] if verdict else [],
        **changed,
    )


def rendered(card):
    """The card as a page, and the texts of every table's cells, row by row."""
    markdown = card.split("---\n", 2)[2]
    page = ElementTree.fromstring(f"<page>{MarkdownIt('commonmark').enable('table').render(markdown)}</page>")
    return page, [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]


def test_hub_reads_what_it_is_and_what_it_reached():
    card = ModelCard(model_card(manifest_of(), [report_of(name="old"), report_of()]))
    assert (card.data.library_name, card.data.pipeline_tag) == ("simile", "sentence-similarity")
    assert card.data.base_model == ["someone/encoder"]
    assert {"onnx", "sentence-similarity"} <= set(card.data.tags)
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("test-seen", "spearmanr", 0.7)


def test_folder_is_no_model_of_the_hub():
    assert "base_model" not in ModelCard(model_card(manifest_of(base="my-model"))).data.to_dict()


def test_card_of_what_nobody_has_judged_has_no_figures():
    card = model_card(manifest_of())
    assert "Evaluation" not in card
    assert "model-index" not in card


def test_table_has_sets_and_guards_with_their_differences():
    page, rows = rendered(model_card(manifest_of(), [report_of()]))
    start = ["4,000", "0.5000"]
    assert ["test-seen", *start, "0.7000", "+0.2000", "[+0.1250, +0.2500]", "0.9000", "0.3000", "0.0100"] in rows
    assert ["general (guard)", *start, "-", "+0.2000", "[+0.1250, +0.2500]", "-", "-", "0.0100"] in rows
    text = "".join(page.itertext())
    assert "Evaluation on CPU, fp32, against base@sha256:000000000000" in text
    assert "verdict: pass (test-seen: low end +0.1250)" in text


def test_table_without_a_baseline_compares_with_nothing():
    page, rows = rendered(model_card(manifest_of(), [report_of(baseline=False, verdict=None)]))
    assert ["test-seen", "4,000", "-", "0.7000", "-", "-", "0.9000", "0.3000", "0.0100"] in rows
    assert "verdict" not in "".join(page.itertext())


@pytest.mark.parametrize(
    ("prior", "said"), [(None, "probabilities."), (0.1, "shifted to a share of positives of 0.1.")]
)
def test_table_has_the_calibration_error_where_one_was_found(prior, said):
    report = report_of(prior=prior, figures=FOUND | {"calibration_error": 0.0312})
    page, rows = rendered(model_card(manifest_of(), [report]))
    assert [row[-1] for row in rows[:3]] == ["ECE", "0.0312", "-"]
    text = "".join(page.itertext())
    assert "ECE is the expected calibration error of the probabilities" in text
    assert said in text
    assert "ECE" not in model_card(manifest_of(), [report_of()])


def test_evaluation_by_the_gate_comes_before_later_ones_without_a_verdict():
    reports = [report_of(), report_of(name="other", precision="bf16", verdict=None, figures=HELD)]
    card = model_card(manifest_of(), reports)
    page, _ = rendered(card)
    titles = [title.text for title in page.iter("h2") if title.text.startswith("Evaluation")]
    assert [title.split(",")[1] for title in titles] == [" fp32", " bf16"]
    (result,) = ModelCard(card).data.eval_results
    assert (result.dataset_name, result.metric_value) == ("test-seen", 0.7)


def test_newest_evaluation_comes_first():
    page, _ = rendered(model_card(manifest_of(), [report_of(), report_of(precision="bf16")]))
    titles = [title.text for title in page.iter("h2") if title.text.startswith("Evaluation")]
    assert [title.split(",")[1] for title in titles] == [" bf16", " fp32"]


def test_members_decisions_and_how_it_was_made_are_told():
    manifest = manifest_of(
        prompt="query: ",
        made=trained_with({"lora": {"rank": 32}, "epochs": [1, 2]}),
        thresholds=Thresholds(best_f1=0.41, precision_95=0.5),
        calibration=PlattCalibration(slope=7.25, intercept=-3.1, positive_share=0.5),
    )
    page, rows = rendered(model_card(manifest))
    assert ["small", "0.7500", "someone/encoder", "abc", "mean", "'query: '", "64", "8"] in rows
    assert ["words", "0.2500", "TF-IDF", "-", "-", "-", "-", "3"] in rows
    for row in (["run.config.lora.rank", "32"], ["run.config.epochs", "1, 2"], ["run.base", "-"], ["seed", "7"]):
        assert row in rows
    text = "".join(page.itertext())
    assert "best F1 is at a score of 0.4100. Above a score of 0.5000, 95 % of the pairs are positive" in text
    assert "1 / (1 + exp(-(7.2500 * score -3.1000))), fitted on pairs of which 50% are positive" in text
    assert "expected calibration error" not in text
    assert manifest.digest in text


def test_isotonic_calibration_is_told_by_its_points():
    calibration = IsotonicCalibration(
        scores=(-0.25, 0.125, 0.75), probabilities=(0, 0.5, 1), positive_share=0.25, error=0.0312
    )
    text = "".join(rendered(model_card(manifest_of(calibration=calibration)))[0].itertext())
    assert "a monotone curve through 3 points at scores from -0.2500 to 0.7500, fitted on pairs of which 25%" in text
    assert "Its expected calibration error on these pairs is 0.0312" in text


def test_threshold_that_does_not_exist_is_said():
    card = model_card(manifest_of(thresholds=Thresholds(best_f1=0.41, precision_95=None)))
    assert "No score is so high that 95 % of the pairs are positive" in card


def test_commands_name_the_bundle():
    page, _ = rendered(model_card(manifest_of()))
    commands = "".join("".join(block.itertext()) for block in page.iter("code"))
    for command in ("simile score my_bundle", "simile serve my_bundle", 'simile.load("my_bundle")'):
        assert command in commands
    (body,) = (line.partition("'")[2].partition("'")[0] for line in commands.splitlines() if "-d '" in line)
    assert json.loads(body) == {"pairs": [["card lost", "where is my card"]]}


@pytest.mark.parametrize("place", ["base", "prompt", "set", "made"])
def test_markdown_in_names_and_texts_is_shown_as_it_is(place):
    made = trained_with({NASTY: [NASTY]}) if place == "made" else None
    manifest = manifest_of(base=NASTY if place == "base" else "b", prompt=NASTY if place == "prompt" else "", made=made)
    page, rows = rendered(model_card(manifest, [report_of(name=NASTY if place == "set" else "s")]))
    shown = " ".join(NASTY.split())
    cells = [cell for row in rows for cell in row]
    assert (repr(NASTY) if place == "prompt" else shown) in cells
    assert not [element.tag for element in page.iter() if element.tag in ("script", "em", "a", "s", "strong")]


@pytest.mark.parametrize("made", [trained_with({}), {"by": "simile join", "of": [], "fitted_on": None, "texts": None}])
def test_figures_from_sets_that_were_trained_on_are_marked(made):
    assert "too good" not in model_card(manifest_of(made=made))
    card = model_card(manifest_of(made={**made, "trained_texts": {"my_dev": 1200}}))
    assert "The training pairs contain 1,200 texts of my\\_dev: what was chosen by these sets" in card


def test_number_of_trained_texts_changes_the_digest_only_where_there_are_any():
    digests = [manifest_of(made={**trained_with({}), "trained_texts": nums}).digest for nums in ({}, {"dev": 1})]
    assert digests[0] == manifest_of(made=trained_with({})).digest != digests[1]
