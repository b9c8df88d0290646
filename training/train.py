"""Pairs -> a tuned encoder -> a bundle: resumable and reproducible.

sentence-transformers trains; this module sets it up, resumes it, and deals many pairs out to several trainings.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor
from transformers import PrinterCallback, set_seed

from simile.artifacts import Bundle, Pair, PairSet, TrainingProvenance, check_replaceable, read_bundle, work_folder
from simile.errors import InputError, StoppedError
from simile.files import alone, sweep
from simile.hardware import bf16_pays, usable_cores
from simile.progress import say
from training.averaging import deal
from training.bundling import best_encoder, require_our_weights, to_bundle, weights_folder
from training.callback import TrainingCallback
from training.config import TrainConfig
from training.cross_fitting import cross_fit
from training.dev_scoring import score_epoch
from training.distillation import Distillation, Teacher
from training.dropout import quicken_dropout
from training.estimate import seconds_per_step
from training.inputs import TrainingInputs
from training.interpolation import Curve
from training.losses import PairLoss, loss_labels, numbered_texts
from training.sampler import LengthBatchSampler, epochs_of, last_steps
from training.torch_encoder import TorchEncoder, linear_layers, load_encoder, require_fits
from training.tracking import require_trackers, tracking
from training.work import Work, step_of, stopping_on_full_disk

_CHECKPOINTS_PER_RUN, _MIN_STEPS_BETWEEN_CHECKPOINTS = 20, 10


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
    torch.set_num_threads(usable_cores())
    check_replaceable(out)
    with alone(out):
        sweep(work_folder(out))
        inputs = TrainingInputs(config, files, dev_sets, calibration_sets, distillation).with_dev_set()
        return _train(inputs, out, restart=restart)


def _train(inputs: TrainingInputs, out: Path, *, restart: bool) -> Bundle:
    config, work = inputs.config, Work(out)
    require_our_weights(weights_folder(out))
    if not restart:
        work.require_same(inputs.facts)
        if (bundle := _made_by(out, inputs, work)) is not None:
            return bundle
    # Inputs that cannot be trained on are refused before the work folder belongs to them.
    require_trackers()
    inputs.require_trainable()
    # torch's fused attention supports no dropout on a CPU: with it, texts of 256 tokens take twice the time and memory.
    # The other dropouts stay.
    base = load_encoder(config.base, config.revision, config.max_length, attention_dropout=False)
    require_fits(config.base, base, config.prompts, config.matryoshka)
    work.begin(inputs.facts, restart=restart)
    with stopping_on_full_disk(work):
        inputs.warn_of_few_groups()
        inputs.warn_of_trained_texts()
        unseen = _cross_fit(inputs, base, out) if config.min_base_agreement else {}
        shares = deal(inputs.trained_rows, config.most_pairs, config.seed)
        parts = [Work(out, part=f"part-{number + 1}") for number in range(len(shares))] if len(shares) > 1 else [work]
        for number, (share, part) in enumerate(zip(shares, parts, strict=True), 1):
            if len(parts) > 1:
                num = sum(map(len, share))
                say(f"training {number} of {len(parts)}, on {num:,} pairs; the times below are for this one")
            if not part.is_trained:
                _fit(inputs, replace(base, model=deepcopy(base.model)), share, part, inputs.teacher)
        return to_bundle(inputs, base, parts, out, unseen)


def _cross_fit(inputs: TrainingInputs, base: TorchEncoder, out: Path) -> Curve:
    """Return the Spearman on unseen groups by alpha, where `cross_fit` has to find it."""
    # The curve has its shape after few steps.
    short = inputs.config.model_copy(update={"epochs": 1})
    of_fold = replace(inputs, config=short, dev_sets=(), calibration_sets=(), distillation=None)

    def fit(rows: Sequence[Pair], work: Work) -> TorchEncoder:
        if not work.is_trained:
            _fit(of_fold, replace(base, model=deepcopy(base.model)), [rows], work, inputs.teacher)
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


def _fit(
    inputs: TrainingInputs, encoder: TorchEncoder, files: Sequence[Sequence[Pair]], work: Work, teacher: Teacher | None
) -> None:
    """Train the encoder in place on the files' pairs, and leave the weights of the best epoch in ``work.best``."""
    config = inputs.config
    set_seed(config.seed)
    epochs = epochs_of(inputs.epochs, [len(rows) for rows in files])
    rows = [row for of_file in files for row in of_file]
    teacher_SND = teacher.rows_of(numbered_texts(rows)) if teacher else None
    trainer = _trainer(config, encoder, rows, _arguments(config, epochs, work), teacher_SND)
    if checkpoint := work.last_checkpoint():
        say(f"resuming from {checkpoint.name}")
        trainer.loss.load_own(checkpoint)
    with tracking(work, config.name, inputs.published_facts.config, step_of(checkpoint)) as log:
        score, seconds = partial(score_epoch, encoder, inputs.dev_sets, config.prompts), seconds_per_step(trainer)
        ends = last_steps(epochs, config.batch_size)
        callback = TrainingCallback(score, trainer.loss, work, ends, seconds_per_step=seconds, log=log)
        trainer.add_callback(callback)
        with callback.stopping_on_sigterm():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if callback.is_stopping:
            step = trainer.state.global_step
            raise StoppedError(f"{work.folder}: stopped at step {step}; the same command continues from there")
    work.finish()


def _trainer(
    config: TrainConfig,
    encoder: TorchEncoder,
    rows: Sequence[Pair],
    arguments: SentenceTransformerTrainingArguments,
    teacher_SND: Tensor | None,
) -> SentenceTransformerTrainer:
    """Return the trainer of the encoder, to which adapters are added for LoRA, on the pairs."""
    # Otherwise the model card's examples are drawn, under a progress bar of their own.
    encoder.model.model_card_data.widget = [{"text": ""}]
    if config.method == "lora":
        lora, layers = config.lora, linear_layers(encoder.transformer.model)
        adapters = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=layers)
        encoder.model.add_adapter(adapters)
    for module in encoder.dense:
        module.requires_grad_(False)
    weights = list(encoder.model.parameters())
    num_trained = sum(value.numel() for value in weights if value.requires_grad)
    say(f"training {num_trained:,} of {sum(value.numel() for value in weights):,} weights of {encoder.name}")
    if not torch.cuda.is_available():
        quicken_dropout(encoder.model)
    columns = {"text_a": [row.text_a for row in rows], "text_b": [row.text_b for row in rows]}
    trainer = SentenceTransformerTrainer(
        model=encoder.model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns | {"label": loss_labels(rows)}),
        loss=PairLoss(encoder.model, config.loss, config.matryoshka, teacher_SND, have_sides=config.has_sides),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(config: TrainConfig, epochs: Sequence[range], work: Work) -> SentenceTransformerTrainingArguments:
    num_steps, on_gpu = last_steps(epochs, config.batch_size)[-1], torch.cuda.is_available()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work.checkpoints),
        # The sampler goes over the epochs.
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(config.warmup_share * num_steps),
        weight_decay=config.weight_decay,
        bf16=config.precision == "bf16" or (config.precision == "auto" and (on_gpu or bf16_pays())),
        use_cpu=not on_gpu,
        seed=config.seed,
        data_seed=config.seed,
        batch_sampler=partial(LengthBatchSampler, epochs=epochs),
        prompts=dict(zip(("text_a", "text_b"), config.prompts, strict=True)) if any(config.prompts) else None,
        save_strategy="steps",
        save_steps=max(_MIN_STEPS_BETWEEN_CHECKPOINTS, num_steps // _CHECKPOINTS_PER_RUN),
        save_total_limit=2,
        logging_steps=10,
        # A loss that is not finite is logged as such, not left out of the mean.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )
    if arguments.n_gpu > 1:
        # One process uses one GPU: torch's DataParallel would make batches of another size than the config's.
        arguments._n_gpu = 1
    return arguments
