from xml.etree import ElementTree

import pytest

from pipeline.training_report import training_blocks
from simile.artifacts import (
    ClassCounts,
    EpochEntry,
    Figures,
    InterpolationPoint,
    StepLoss,
    TrainingHistory,
    write_training_history,
)
from simile.errors import InputError
from simile.scoring.metrics import EDGES

COUNTS = [0] * (len(EDGES) - 1)
LABELLED = Figures(spearman=0.5, auc=0.7, separability=0.2, overlap=0.6)


def entry(epoch, mean, figures):
    counts = ClassCounts(positive=(epoch + 1, *COUNTS[1:]), negative=(*COUNTS[1:], 2))
    histograms = {"dev": counts} if figures.overlap else {}
    return EpochEntry(epoch=epoch, seconds=1, mean=mean, dev={"dev": figures}, histograms=histograms)


def point(alpha, **dev):
    return InterpolationPoint(alpha=alpha, agreement=1 - alpha / 10, dev=dev)


@pytest.fixture
def blocks(tmp_path):
    """A function that writes a training history and returns its blocks."""

    def written(**history):
        write_training_history(tmp_path / "bundle.work", TrainingHistory(**history))
        return training_blocks(tmp_path / "bundle")

    return written


@pytest.fixture
def charts(blocks):
    """A function that draws a training history and returns each chart by its title."""

    def drawn(**history):
        trees = [ElementTree.fromstring(block.markup) for block in blocks(**history)]
        return {figure.findtext("figcaption"): figure for tree in trees for figure in tree.iter("figure")}

    return drawn


def text(figure):
    return " ".join(" ".join(figure.itertext()).split())


def test_figures_of_sets_that_are_trained_on_are_marked(blocks):
    assert not any("too good" in block.markup for block in blocks(epochs=[entry(0, 0.5, LABELLED)]))
    marked = blocks(epochs=[entry(0, 0.5, LABELLED)], trained_texts={"dev": 12, "calibration": 1})
    assert "The training pairs contain 12 texts of dev, 1 texts of calibration" in marked[1].markup


def test_no_training_has_no_part_in_the_page(tmp_path, charts):
    assert training_blocks(tmp_path / "elsewhere") == []
    assert charts() == {}


def test_history_of_another_schema_version_is_refused(tmp_path):
    (tmp_path / "bundle.work").mkdir()
    (tmp_path / "bundle.work" / "history.json").write_text('{"schema_version": 0}')
    with pytest.raises(InputError, match=r"history\.json: schema_version: .*; need a training history of version 1"):
        training_blocks(tmp_path / "bundle")


def test_losses_have_a_curve_for_each_part(charts):
    losses = [StepLoss(step=step, total=3, parts={"ranking": 2, "cosent": 1}) for step in (10, 20)]
    (figure,) = charts(losses=losses).values()
    assert all(part in text(figure) for part in ("total last 3", "ranking last 2", "cosent last 1"))


def test_loss_of_one_part_is_drawn_once(charts):
    (figure,) = charts(losses=[StepLoss(step=10, total=3, parts={"mse": 3})]).values()
    assert "mse" not in text(figure)


def test_long_curve_of_losses_is_drawn_by_its_means(charts):
    losses = [StepLoss(step=10 * i, total=i % 2, parts={}) for i in range(1, 1001)]
    (figure,) = charts(losses=losses).values()
    (curve,) = (path.get("d") for path in figure.iterfind(".//g[@class='curve']/path"))
    assert curve.count("L") == 199
    assert "last 0.4" in text(figure)


def test_dev_sets_have_curves_over_the_epochs_and_histograms_of_the_best(charts):
    figures = charts(epochs=[entry(epoch, mean, LABELLED) for epoch, mean in enumerate([0.9, 0.2, 0.5, 0.5, 0.3])])
    titles = list(figures)
    assert [title.partition(" ")[0] for title in titles] == ["Spearman", "Separability", "Before:", "After:"]
    assert titles[-1] == "After: epoch 3"
    assert "positive pairs 1 value" in text(figures["Before: the base encoder"])
    assert "positive pairs 4 values" in text(figures["After: epoch 3"])


@pytest.mark.parametrize(("alpha", "title"), [(1, "After: epoch 1"), (0.5, "After: epoch 1, before interpolation")])
def test_title_says_where_scores_come_from_before_interpolation(charts, alpha, title):
    epochs = [entry(epoch, 0.5, LABELLED) for epoch in (0, 1)]
    assert title in charts(epochs=epochs, interpolation=[point(0, dev=0), point(alpha, dev=alpha)])


def test_graded_dev_sets_have_no_separability_and_no_histograms(charts):
    (title,) = charts(epochs=[entry(epoch, 0.5, Figures(spearman=0.5)) for epoch in (0, 1)])
    assert title.startswith("Spearman")


def test_constant_scores_leave_a_gap(charts):
    epochs = [entry(epoch, value, Figures(spearman=value)) for epoch, value in enumerate((None, 0.5))]
    (figure,) = charts(epochs=epochs).values()
    assert "dev last 0.5" in text(figure)


def test_interpolation_is_drawn_by_alpha_with_the_agreement(charts):
    points = [point(alpha, **{"dev-seen": alpha}) for alpha in (0, 1, 0.5)]
    (figure,) = charts(interpolation=points).values()
    assert all(part in text(figure) for part in ("Spearman, dev-seen last 1", "agreement with the base last 0.9"))


@pytest.mark.parametrize(("alpha", "is_shown"), [(0, True), (0.5, False)])
def test_base_weights_are_called_out(blocks, alpha, is_shown):
    written = blocks(interpolation=[point(0.5 - alpha), point(1), point(alpha)])
    markup = "".join(block.markup for block in written)
    assert ("The weights are the base encoder" in markup) is is_shown
    assert ('class="callout bad"' in markup) is is_shown
