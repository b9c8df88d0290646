import json
from xml.etree import ElementTree

import pytest

from pipeline.training_report import training_blocks
from simile.scoring.metrics import EDGES

COUNTS = [0] * (len(EDGES) - 1)
LABELLED = {"spearman": 0.5, "auc": 0.7, "separability": 0.2, "overlap": 0.6}


def entry(epoch, mean, **dev):
    counts = {"positive": [epoch + 1, *COUNTS[1:]], "negative": [*COUNTS[1:], 2]}
    histograms = {name: counts for name, found in dev.items() if "overlap" in found}
    return {"epoch": epoch, "dev": dev, "histograms": histograms, "mean": mean}


@pytest.fixture
def charts(tmp_path):
    """Draws what a training has left; returns each chart with its title."""

    def drawn(history=(), losses=(), frontier=()):
        folder = tmp_path / "bundle.work"
        folder.mkdir()
        (folder / "history.json").write_text(json.dumps(history))
        (folder / "losses.json").write_text(json.dumps(losses))
        if frontier:
            (folder / "frontier.json").write_text(json.dumps(frontier))
        blocks = [ElementTree.fromstring(block.markup) for block in training_blocks(tmp_path / "bundle")]
        return {figure.findtext("figcaption"): figure for block in blocks for figure in block.iter("figure")}

    return drawn


def text(figure):
    return " ".join(" ".join(figure.itertext()).split())


def test_no_training_has_no_part_in_the_page(tmp_path, charts):
    assert training_blocks(tmp_path / "elsewhere") == []
    assert charts() == {}


def test_losses_have_a_curve_for_each_part(charts):
    losses = [{"step": step, "total": 3.0, "ranking": 2.0, "cosent": 1.0} for step in (10, 20)]
    (figure,) = charts(losses=losses).values()
    assert all(part in text(figure) for part in ("total last 3", "ranking last 2", "cosent last 1"))


def test_loss_of_one_part_is_drawn_once(charts):
    (figure,) = charts(losses=[{"step": 10, "total": 3.0, "mse": 3.0}]).values()
    assert "mse" not in text(figure)


def test_long_curve_of_losses_is_drawn_by_its_means(charts):
    losses = [{"step": 10 * i, "total": float(i % 2)} for i in range(1, 1001)]
    (figure,) = charts(losses=losses).values()
    (curve,) = (path.get("d") for path in figure.iterfind(".//g[@class='curve']/path"))
    assert curve.count("L") == 199
    assert "last 0.4" in text(figure)


def test_dev_sets_have_curves_over_the_epochs_and_histograms_of_the_best(charts):
    history = [entry(epoch, mean, dev=LABELLED) for epoch, mean in enumerate([0.9, 0.2, 0.5, 0.5, 0.3])]
    figures = charts(history)
    titles = list(figures)
    assert [title.partition(" ")[0] for title in titles] == ["Spearman", "Separability", "Before:", "After:"]
    assert titles[-1] == "After: epoch 3"
    assert "positive pairs 1 value" in text(figures["Before: the base encoder"])
    assert "positive pairs 4 values" in text(figures["After: epoch 3"])


@pytest.mark.parametrize(
    ("factor", "title"),
    [(1, "After: epoch 1"), (0.5, "After: epoch 1, before its weights went back towards the base's")],
)
def test_scores_of_weights_that_are_not_the_bundles_are_called_so(charts, factor, title):
    points = [{"factor": of, "agreement": 1.0, "dev": {"dev": of}} for of in (0, factor)]
    assert title in charts([entry(epoch, 0.5, dev=LABELLED) for epoch in (0, 1)], frontier=points)


def test_graded_dev_sets_have_no_separability_and_no_histograms(charts):
    (title,) = charts([entry(epoch, 0.5, dev={"spearman": 0.5}) for epoch in (0, 1)])
    assert title.startswith("Spearman")


def test_way_back_to_the_base_is_drawn_in_order_with_what_was_kept(charts):
    points = [{"factor": factor, "agreement": 1 - factor / 10, "dev": {"dev-seen": factor}} for factor in (0, 1, 0.5)]
    (figure,) = charts(frontier=points).values()
    assert all(part in text(figure) for part in ("Spearman, dev-seen last 1", "agreement with the base last 0.9"))


@pytest.mark.parametrize(("factor", "is_said"), [(0, True), (0.5, False)])
def test_that_nothing_is_kept_catches_the_eye(tmp_path, factor, is_said):
    (tmp_path / "bundle.work").mkdir()
    points = [{"factor": of, "agreement": 1 - of / 10, "dev": {}} for of in (0.5 - factor, 1, factor)]
    (tmp_path / "bundle.work" / "frontier.json").write_text(json.dumps(points))
    markup = "".join(block.markup for block in training_blocks(tmp_path / "bundle"))
    assert ("Nothing that was learned is kept" in markup) is is_said
    assert ('class="callout bad"' in markup) is is_said
