"""Distillation: the student's similarities follow the teacher's, on texts without labels as well."""

import json
import shutil

import numpy as np
import pytest
import torch

from pipeline.cli import main
from pipeline.commands.join import join
from simile.artifacts import Pair, PairSet, read_bundle, read_labelled_pairs, read_training_texts, text_hash, text_key
from simile.errors import InputError
from simile.scoring import Scorer, choose_runtime, load
from training.baseline import make_baseline
from training.config import TrainConfig
from training.distillation import Distillation, embed_with_teacher, near_pairs
from training.interpolation import general_clusters
from training.losses import PairLoss, loss_label, teacher_loss
from training.torch_encoder import load_encoder
from training.train import train

SUBJECTS, ASKED = (
    ("my card", "the fee", "a new order", "the invoice"),
    ("is late", "came back", "was wrong", "is it here"),
)
UNLABELLED = [f"{subject} and {other} {asked}" for subject in SUBJECTS for other in SUBJECTS for asked in ASKED]


def unit(num, dimension, seed):
    vectors = torch.randn(num, dimension, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.fixture
def few_clusters(monkeypatch):
    monkeypatch.setattr("training.distillation.general_clusters", lambda: general_clusters()[:4])


@pytest.fixture
def traffic(tmp_path):
    path = tmp_path / "traffic.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in UNLABELLED))
    return path


@pytest.fixture
def pairs(material):
    return read_labelled_pairs(material.pairs)


@pytest.mark.parametrize("have_sides", [False, True])
def test_teacher_loss_is_its_definition(have_sides):
    student_TD, teacher_TD = 3 * unit(6, 4, 0), unit(6, 9, 1)
    text_T = torch.tensor([0, 1, 2, 3, 1, 4])
    expected = 0.0
    for i in range(6):
        others = [j for j in range(6) if text_T[j] != text_T[i] and not (have_sides and (i < 3) == (j < 3))]
        q, p = (
            (20 * torch.stack([x_TD[i] @ x_TD[j] for j in others])).softmax(0)
            for x_TD in (torch.nn.functional.normalize(student_TD, dim=1), teacher_TD)
        )
        expected += float((p * (p / q).log()).sum()) / 6
    loss = teacher_loss(student_TD, teacher_TD, text_T, have_sides=have_sides)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_teacher_loss_is_zero_where_the_student_has_the_teachers_similarities():
    teacher_TD = unit(6, 4, 0)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    assert float(teacher_loss(teacher_TD @ rotation, teacher_TD, torch.arange(6))) == pytest.approx(0, abs=1e-6)


def test_pairs_without_labels_teach_the_teachers_scores_only(make_base):
    model = load_encoder(str(make_base("bert"))).model.eval()
    labelled = [Pair("a card", "the fee", 1), Pair("my bank", "a card fee", 0)]
    unlabelled = [Pair("where is it", "the card is here"), Pair("a fee", "no card")]

    def losses(rows):
        columns = [model.preprocess([getattr(row, name) for row in rows]) for name in ("text_a", "text_b")]
        index = {text_key(text): n for n, text in enumerate(text for row in rows for text in (row.text_a, row.text_b))}
        teacher_ND, label_P = unit(len(index), 5, 0), torch.tensor([loss_label(row, index) for row in rows])
        weights = {"ranking": 1.0, "cosent": 0.3, "teacher": 1.0}
        values = PairLoss(model, weights, teacher_SND=teacher_ND[None])(columns, label_P)
        return {name: value.item() for name, value in values.items()}

    alone, both, without = losses(labelled), losses([*labelled, *unlabelled]), losses(unlabelled)
    assert [both[name] for name in ("ranking", "cosent")] == pytest.approx(
        [alone["ranking"], alone["cosent"]], rel=1e-3
    )
    assert both["teacher"] != pytest.approx(alone["teacher"], rel=1e-3)
    assert (without["ranking"], without["cosent"]) == (0, 0)
    assert without["teacher"] > 0


def test_each_text_is_paired_with_some_of_its_nearest_ones(monkeypatch):
    embedding_ND = unit(300, 8, 0).numpy()
    pairs = near_pairs(embedding_ND, range(300), seed=0)
    rank_NN = np.argsort(np.argsort(-(embedding_ND @ embedding_ND.T), axis=1), axis=1)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert {i for pair in pairs for i in pair} == set(range(300))
    # A pair is near for one of its texts; rank 0 is the text itself.
    assert all(0 < min(rank_NN[i, j], rank_NN[j, i]) <= 10 for i, j in pairs)
    assert pairs != near_pairs(embedding_ND, range(300), seed=1)
    monkeypatch.setattr("training.distillation._MAX_SCORES", 1000)
    assert pairs == near_pairs(embedding_ND, range(300), seed=0)


def test_a_text_alone_has_no_near_texts():
    assert near_pairs(unit(1, 4, 0).numpy(), [0], seed=0) == []


def test_the_teacher_embeds_pairs_unlabelled_texts_and_general_sentences(tiny, pairs):
    dev = PairSet("dev", (Pair(UNLABELLED[0].upper(), "another text", 1),), "0" * 64)
    teacher = embed_with_teacher(Distillation(tiny, UNLABELLED), [pairs], [dev], seed=0)
    texts = {text for both in pairs.texts for text in both} | set(UNLABELLED[1:])
    texts |= {text for cluster in general_clusters()[::2] for text in cluster}
    assert teacher.index.keys() == {text_key(text) for text in texts}
    some = [UNLABELLED[3], pairs.rows[5].text_a]
    np.testing.assert_allclose(
        teacher.embedding_SND[:, [teacher.index[text_key(text)] for text in some]],
        load(tiny.path).embed(some)[None],
        atol=1e-2,
    )
    taught = {text for pair in teacher.pairs for text in (pair.text_a, pair.text_b)}
    assert set(UNLABELLED[1:]) < taught
    assert UNLABELLED[0] not in taught
    assert all(pair.target is None for pair in teacher.pairs)


@pytest.mark.usefixtures("few_clusters")
def test_a_teacher_with_two_sides_teaches_scores_across_them(make_base, pairs, tmp_path):
    bundle = make_baseline(str(make_base("bert")), tmp_path / "sided", prompts=("my card ", "the fee "))
    teacher = embed_with_teacher(Distillation(bundle), [pairs], [], seed=0)
    keys = [text_key(text) for text in pairs.texts[0]]
    first, second = teacher.embedding_SND[:, [teacher.index[key] for key in keys]]
    score = load(bundle.path).score([pairs.texts[0], pairs.texts[0][::-1]])
    assert [float(first[0] @ second[1]), float(first[1] @ second[0])] == pytest.approx(score.tolist(), abs=1e-2)


@pytest.mark.usefixtures("few_clusters")
def test_a_student_comes_nearer_to_its_teacher(tiny, make_base, material, settings, traffic, tmp_path, capsys):
    """The teacher is random, so nothing but its scores can bring the student nearer."""
    config = tmp_path / "student.yaml"
    config.write_text(json.dumps(settings("mpnet", method="full", epochs=3, learning_rate=1e-3, loss={"teacher": 1.0})))
    argv = ["distill", str(tiny.path), "--into", str(config), "--pairs", str(material.few)]
    argv += ["--unlabelled", str(traffic), "--out", str(tmp_path / "student")]
    assert main(argv) == 0
    student = read_bundle(tmp_path / "student")
    assert student.manifest.made.run.teacher == tiny.manifest.digest
    assert text_hash(UNLABELLED[0]) in read_training_texts(student)
    untouched = load_encoder(str(make_base("mpnet")), max_length=32).model
    before, after = untouched.encode(UNLABELLED), load(student.path, device="cpu", precision="fp32").embed(UNLABELLED)
    taught = torch.from_numpy(load(tiny.path, device="cpu", precision="fp32").embed(UNLABELLED))
    far, near = (float(teacher_loss(torch.tensor(x), taught, torch.arange(len(taught)))) for x in (before, after))
    assert near < far / 2
    capsys.readouterr()
    assert main(argv) == 0
    assert "already trained by this very run" in capsys.readouterr().err


@pytest.mark.usefixtures("few_clusters")
def test_labels_teach_beside_the_teacher_whose_training_texts_count(trained, material, settings, tmp_path, capsys):
    teacher, config = trained().bundle, tmp_path / "student.yaml"
    values = settings()
    config.write_text(json.dumps(values))
    argv = ["distill", str(teacher.path), "--into", str(config), "--pairs", str(material.few)]
    # Interpolation trains folds, and several trainings share the teacher.
    argv += ["--set", "min_base_agreement=0.5", "--set", "most_pairs=70"]
    assert main([*argv, "--out", str(tmp_path / "student")]) == 0
    student = read_bundle(tmp_path / "student")
    assert set(student.manifest.made.run.config["loss"]) == {"ranking", "cosent", "teacher"}
    assert read_training_texts(teacher) < read_training_texts(student)
    # The teacher embeds once.
    assert capsys.readouterr().err.count("labelled pairs and") == 1


def test_the_loss_of_a_teacher_needs_one(material, settings, tmp_path):
    config = TrainConfig(**settings(loss={"teacher": 1.0}))
    with pytest.raises(InputError, match="got the loss 'teacher' without a teacher, need simile distill"):
        train(config, [read_labelled_pairs(material.few)], [], tmp_path / "bundle")


def test_a_teacher_takes_one_file_of_pairs(tiny, material, settings, pairs, tmp_path):
    config = TrainConfig(**settings(loss={"teacher": 1.0}))
    with pytest.raises(InputError, match="got 2 files of pairs, need one to distill a teacher"):
        train(config, [pairs, pairs], [], tmp_path / "bundle", distillation=Distillation(tiny))


def test_a_teacher_whose_training_texts_are_unknown_is_refused(trained, pairs, tmp_path):
    bundle = shutil.copytree(trained().out, tmp_path / "bundle")
    (bundle / "texts.sha256").unlink()
    with pytest.raises(InputError, match=r"its training texts are unknown, need a bundle with its texts.sha256"):
        embed_with_teacher(Distillation(read_bundle(bundle)), [pairs], [], seed=0)


def test_a_teacher_with_a_lexical_member_is_refused_before_it_embeds(tiny, write_lexical, tmp_path, monkeypatch):
    words = write_lexical(tmp_path / "words", ["the card", "the fee"])
    monkeypatch.setattr("simile.scoring.encoder.Encoder.embed_tokens", None)
    with pytest.raises(InputError, match="member words has no embeddings"):
        Scorer(join([tiny.path, words.path], tmp_path / "both"), choose_runtime("cpu", "fp32")).embed(["a text"])
