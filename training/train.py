"""Pairs -> a tuned encoder -> a bundle: resumable and reproducible.

sentence-transformers trains; this module sets it up, resumes it, and deals many pairs out to several trainings.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from simile.artifacts import Bundle, Pair, PairSet, TrainingProvenance, check_replaceable, read_bundle, work_folder
from simile.errors import InputError, StoppedError
from simile.files import alone, sweep
from simile.malloc import release_memory
from simile.progress import say
from training.averaging import num_trainings, share_of
from training.bundling import best_encoder, require_our_weights, to_bundle, weights_folder
from training.callback import TrainingCallback
from training.config import TrainConfig
from training.cross_fitting import cross_fit
from training.dev_scoring import score_epoch
from training.distillation import Distillation
from training.estimate import seconds_per_step
from training.fit import Fit, dataset_of, encoder_to_train, help_to_fit, prepare_process, train_with, trainer_of
from training.inputs import TrainingInputs
from training.interpolation import Curve
from training.processes import call_helpers
from training.sampler import epochs_of
from training.torch_encoder import TorchEncoder, require_fits
from training.tracking import require_trackers, tracking
from training.work import Work, step_of, stopping_on_full_disk


def train(
    config: TrainConfig,
    files: Sequence[PairSet],
    dev_sets: Sequence[PairSet],
    out: Path,
    *,
    calibration_sets: Sequence[PairSet] = (),
    distillation: Distillation | None = None,
    restart: bool = False,
) -> Bundle:
    """Return the bundle at ``out``, trained on the pairs, or unchanged where the same run has already made it.

    The pairs and the ``distillation`` are those of `TrainingInputs`; ``restart`` discards what an earlier run has left
    at ``out``.

    Raises:
        InputError: the pairs or the config cannot be trained on, or ``out`` belongs to another run.
        StoppedError: SIGTERM came or the disk is full, and the same call continues from the last checkpoint; or another
            process trains at ``out``.
    """
    prepare_process()
    check_replaceable(out)
    with alone(out):
        sweep(work_folder(out))
        inputs = TrainingInputs(config, files, dev_sets, calibration_sets, distillation).with_dev_set()
        return _train(inputs, out, restart=restart)


def shares_left(
    config: TrainConfig,
    files: Sequence[PairSet],
    dev_sets: Sequence[PairSet],
    out: Path,
    *,
    calibration_sets: Sequence[PairSet] = (),
) -> list[int]:
    """Return the numbers, from 1, of the shares of ``most_pairs`` that `train` has yet to train at ``out``.

    They may be trained before it by `train_share`, side by side. None is left where one training sees all pairs.

    Raises:
        InputError: as `train` does.
    """
    check_replaceable(out)
    require_our_weights(weights_folder(out))
    inputs, work = TrainingInputs(config, files, dev_sets, calibration_sets).with_dev_set(), Work(out)
    work.require_same(inputs.facts)
    if _made_by(out, inputs, work) is not None:
        return []
    inputs.require_trainable()
    parts = _parts(out, num_trainings(inputs.trained_rows, config.most_pairs))
    return [number for number, part in enumerate(parts, 1) if not part.is_trained] if len(parts) > 1 else []


def train_share(
    config: TrainConfig,
    files: Sequence[PairSet],
    dev_sets: Sequence[PairSet],
    out: Path,
    *,
    number: int,
    calibration_sets: Sequence[PairSet] = (),
) -> None:
    """Train one of several shares of ``most_pairs``, which `train` then finds done in the work folder of ``out``.

    Raises:
        InputError: as `train` does.
        StoppedError: as `train` does; the same call, or `train`, continues.
    """
    prepare_process()
    inputs, work = TrainingInputs(config, files, dev_sets, calibration_sets).with_dev_set(), Work(out)
    work.require_same(inputs.facts)
    base = _begin(inputs, work, restart=False)
    with stopping_on_full_disk(work):
        _train_part(inputs, base, _parts(out, num_trainings(inputs.trained_rows, config.most_pairs)), number)


def _train(inputs: TrainingInputs, out: Path, *, restart: bool) -> Bundle:
    config, work = inputs.config, Work(out)
    require_our_weights(weights_folder(out))
    if not restart:
        work.require_same(inputs.facts)
        if (bundle := _made_by(out, inputs, work)) is not None:
            return bundle
    base = _begin(inputs, work, restart=restart)
    with stopping_on_full_disk(work):
        inputs.warn_of_few_groups()
        inputs.warn_of_trained_texts()
        unseen = _cross_fit(inputs, base, out) if config.min_base_agreement else {}
        parts = _parts(out, num_trainings(inputs.trained_rows, config.most_pairs))
        for number in range(1, len(parts) + 1):
            _train_part(inputs, base, parts, number)
        return to_bundle(inputs, base, parts, out, unseen)


def _begin(inputs: TrainingInputs, work: Work, *, restart: bool) -> TorchEncoder:
    """Begin or continue the run in its work folder, and return the base encoder."""
    # Inputs that cannot be trained on are refused before the work folder belongs to them.
    require_trackers()
    inputs.require_trainable()
    base = encoder_to_train(inputs.config)
    require_fits(inputs.config.base, base, inputs.config.prompts, inputs.config.matryoshka)
    work.begin(inputs.facts, restart=restart)
    return base


def _parts(out: Path, num: int) -> list[Work]:
    """Return the work folders of the run's trainings; a single one has the run's own."""
    return [Work(out, part=f"part-{number + 1}") for number in range(num)] if num > 1 else [Work(out)]


def _train_part(inputs: TrainingInputs, base: TorchEncoder, parts: Sequence[Work], number: int) -> None:
    """Train on the share of this number, unless that is done, and leave the weights in its part's folder."""
    part, are_several = parts[number - 1], len(parts) > 1
    # The run's own folder is held already. That of a part may be another process' that trains this share alone.
    with alone(part.folder) if are_several else nullcontext():
        if part.is_trained:
            return
        share = share_of(inputs.trained_rows, number, len(parts), inputs.config.seed)
        if are_several:
            num = sum(map(len, share))
            say(f"training {number} of {len(parts)}, on {num:,} pairs; the times below are for this one")
        _fit_copy(inputs, base, share, part)


def _cross_fit(inputs: TrainingInputs, base: TorchEncoder, out: Path) -> Curve:
    """Return the Spearman on unseen groups by alpha, where `cross_fit` has to find it."""
    # The curve has its shape after few steps.
    short = inputs.config.model_copy(update={"epochs": 1})
    of_fold = replace(inputs, config=short, dev_sets=(), calibration_sets=(), distillation=None)

    def fit(rows: Sequence[Pair], work: Work) -> TorchEncoder:
        if not work.is_trained:
            _fit_copy(of_fold, base, [rows], work)
        return best_encoder(inputs.config, work)

    return cross_fit(inputs, base, lambda name: Work(out, part=name), fit)


def _made_by(out: Path, inputs: TrainingInputs, work: Work) -> Bundle | None:
    """Return the bundle at ``out`` if this very run has made it; refuse another one that no begun run would replace."""
    if not out.exists() or not any(out.iterdir()):
        return None
    made = (bundle := read_bundle(out)).manifest.made
    if isinstance(made, TrainingProvenance) and made.run == inputs.published_facts:
        say(f"{out}: already trained by this very run (--restart to train again)")
        return bundle
    if not work.is_begun:
        raise InputError(f"{out}: holds another bundle, need --restart to replace it, or another output")
    return None


def _fit_copy(inputs: TrainingInputs, base: TorchEncoder, files: Sequence[Sequence[Pair]], work: Work) -> None:
    """Train a copy of the base on the files' pairs, and leave the weights of the best epoch in ``work.best``."""
    _fit(inputs, replace(base, model=deepcopy(base.model)), files, work)
    # The copy is in reference cycles, and autograd's thread holds what it has freed: 2.4 GB with MPNet.
    release_memory()


def _fit(inputs: TrainingInputs, encoder: TorchEncoder, files: Sequence[Sequence[Pair]], work: Work) -> None:
    config, teacher, checkpoint = inputs.config, inputs.teacher, work.last_checkpoint()
    epochs = epochs_of(inputs.epochs, [len(rows) for rows in files])
    dataset = dataset_of(chain(*files), work.pairs, teacher.index if teacher else None)
    teacher_SND = torch.from_numpy(teacher.embedding_SND) if teacher else None
    fit = Fit(config, epochs, dataset, teacher_SND, work.checkpoints, checkpoint)
    call_helpers(partial(help_to_fit, fit))
    trainer = trainer_of(fit, encoder)
    weights = list(encoder.model.parameters())
    num_trained = sum(value.numel() for value in weights if value.requires_grad)
    say(f"training {num_trained:,} of {sum(value.numel() for value in weights):,} weights of {encoder.name}")
    if checkpoint:
        say(f"resuming from {checkpoint.name}")
    with tracking(work, config.name, inputs.published_facts.config, step_of(checkpoint)) as log:
        score, seconds = partial(score_epoch, encoder, inputs.dev_sets, config.prompts), seconds_per_step(trainer)
        callback = TrainingCallback(score, trainer.loss, work, fit.last_steps, seconds_per_step=seconds, log=log)
        trainer.add_callback(callback)
        with callback.stopping_on_sigterm():
            train_with(trainer, fit)
        if callback.is_stopping:
            step = trainer.state.global_step
            raise StoppedError(f"{work.folder}: stopped at step {step}; the same command continues from there")
    work.finish()
