"""Pairs -> a tuned encoder -> a bundle: resumable, reproducible.

sentence-transformers trains; what is here sets it up, watches it, and turns the best weights into a bundle.
"""

import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import PrinterCallback, set_seed

from simile import __version__
from simile.artifacts import (
    Bundle,
    Pair,
    PairSet,
    RunFacts,
    TrainingProvenance,
    check_replaceable,
    read_bundle,
    text_hash,
    text_key,
    texts_digest,
    write_bundle,
    write_training_texts,
)
from simile.errors import InputError, StoppedError
from simile.files import whole_directory
from simile.hardware import bf16_pays, usable_cores
from simile.progress import say
from simile.scoring import Scorer
from training.averaging import StepMean, deal, set_to_mean
from training.base import Base, fingerprint, linear_layers, load_base, public_name, require_cuts, require_room
from training.config import TrainConfig
from training.decision import with_decisions
from training.dropout import quicken_dropout
from training.estimate import seconds_a_step
from training.export import export_member, in_memory, manifest_of, plain_runtime, versions
from training.interpolation import as_json, interpolate
from training.losses import NEED_LABELS, PairLoss, loss_labels
from training.sampler import LengthBatchSampler, epochs_by_file, epochs_of, last_steps
from training.tracking import require_trackers, tracking
from training.watch import SavesOwn, Watch, measured
from training.work import Work, step_of, stopping_on_full_disk

_CHECKPOINTS_A_RUN = 20
_MIN_STEPS_BETWEEN_CHECKPOINTS = 10


def train(
    config: TrainConfig,
    files: Sequence[PairSet],
    dev_sets: Sequence[PairSet],
    out: Path,
    *,
    calibration_sets: Sequence[PairSet] = (),
    restart: bool = False,
) -> Bundle:
    """Return the bundle at ``out``, trained on the pairs, or as it is where the same run has already made it.

    Args:
        config: what to do.
        files: the pairs; of several files, those of a curriculum, one after the other.
        dev_sets: labelled pairs to choose by.
        out: where to.
        calibration_sets: pairs like those to be scored, to fit calibration and thresholds on; without, the dev sets.
        restart: throw away what an earlier run has left there.

    Raises:
        InputError: the pairs or the config cannot be trained on, or ``out`` belongs to another run.
        StoppedError: SIGTERM came or the disk is full; the same call goes on from the last checkpoint.
    """
    torch.set_num_threads(usable_cores())
    check_replaceable(out)
    work = Work(out)
    _require_our_weights(_weights_folder(out))
    facts = facts_of(config) | {
        "pairs": [pairs.sha256 for pairs in files],
        "dev": {dev.name: dev.sha256 for dev in dev_sets},
        "calibration": [pairs.sha256 for pairs in calibration_sets],
    }
    if not restart:
        work.require_same(facts)
        if (bundle := _made_by(out, facts, work)) is not None:
            return bundle
    # What cannot be trained on is refused before the work folder belongs to it.
    require_trackers()
    epochs = _epochs(config, files)
    for pairs in files:
        _require_learnable(config, pairs)
    # Attention's weights are as many as the square of a text's length, and torch's fused attention drops none on a CPU:
    # with their dropout, texts of 256 tokens take twice the time and memory. The other dropouts stay.
    base = load_base(config.base, config.revision, config.max_length, attention_dropout=False)
    require_room(config.base, base, config.prompt)
    require_cuts(config.base, base, config.matryoshka)
    work.begin(facts, restart=restart)
    with stopping_on_full_disk(work):
        text_pairs = [pair for pairs in files for pair in pairs.texts]
        texts = [text for epoch in dict.fromkeys(epochs) for i in epoch for text in text_pairs[i]]
        write_training_texts(out, texts)
        _tell_of_known_texts(texts, [*dev_sets, *calibration_sets])
        # Pairs that no epoch goes over are none to deal out.
        trained = [
            pairs.rows if num else () for pairs, num in zip(files, epochs_by_file(config, len(files)), strict=True)
        ]
        shares = deal(trained, config.most_pairs, config.seed)
        parts = [Work(out, part=number) for number in range(1, len(shares) + 1)] if len(shares) > 1 else [work]
        for number, (share, part) in enumerate(zip(shares, parts, strict=True), 1):
            if len(parts) > 1:
                say(f"training {number} of {len(parts)}, on {sum(map(len, share)):,} pairs; times are of this one")
            if not part.is_trained:
                _fit(config, replace(base, model=deepcopy(base.model)), share, dev_sets, part)
        return _to_bundle(config, base, texts, (calibration_sets, dev_sets), parts, out, facts)


def facts_of(config: TrainConfig) -> dict[str, Any]:
    """Return what a run is known by before there are pairs: one of other facts may not go on with its work."""
    return {"config": config.model_dump(mode="json"), "base": fingerprint(config.base), "version": __version__}


def _weights_folder(out: Path) -> Path:
    """Return the folder beside a bundle that holds its merged weights."""
    return out.with_name(f"{out.name}.weights")


def _require_our_weights(folder: Path) -> None:
    if folder.is_dir() and all((child / "modules.json").is_file() for child in folder.iterdir()):
        return
    if folder.exists():
        raise InputError(f"{folder}: is no folder of merged weights, need another output")


def _made_by(out: Path, facts: dict[str, Any], work: Work) -> Bundle | None:
    """Return the bundle at ``out`` where this very run has made it.

    Raises:
        InputError: it is there, but not of this run, and no run that would replace it is under way.
    """
    if not out.exists() or not any(out.iterdir()):
        return None
    bundle = read_bundle(out)
    made = bundle.manifest.made
    if isinstance(made, TrainingProvenance) and made.run == _published(facts):
        say(f"{out}: already trained by this very run (--restart to do it again)")
        return bundle
    if not work.is_begun:
        raise InputError(f"{out}: holds another bundle, need --restart to replace it, or another output")
    return None


def _published(facts: dict[str, Any]) -> RunFacts:
    """Return the facts as the manifest states them, without the path of a local base encoder."""
    return RunFacts.model_validate(facts | {"config": _public(facts["config"])})


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"base": public_name(settings["base"])}


def _epochs(config: TrainConfig, files: Sequence[PairSet]) -> list[range]:
    """Return the indices of each epoch's pairs among those of all files.

    Raises:
        InputError: the config is for another number of files.
    """
    try:
        return epochs_of(config, [len(pairs.rows) for pairs in files])
    except ValueError as error:
        raise InputError(
            f"got {len(files)} files of pairs ({', '.join(pairs.name for pairs in files)}), "
            f"need one for each of the epochs {config.epochs}"
        ) from error


def _tell_of_known_texts(texts: Iterable[str], sets: Iterable[PairSet]) -> None:
    """Say of which sets that something is chosen or fitted by texts are trained on."""
    trained = {text_key(text) for text in texts}
    for pairs in sets:
        if num := len(trained & {text_key(text) for pair in pairs.texts for text in pair}):
            say(f"{pairs.name}: {num:,} of its texts are trained on, so that what it says of new texts is too good")


def _dataset(rows: Sequence[Pair]) -> Dataset:
    """Return the pairs as the trainer takes them: two texts, and the label that `PairLoss` reads."""
    return Dataset.from_dict(
        {
            "text_a": [row.text_a for row in rows],
            "text_b": [row.text_b for row in rows],
            "label": loss_labels(rows),
        }
    )


def _require_learnable(config: TrainConfig, pairs: PairSet) -> None:
    """Refuse pairs that the losses have no use for.

    Raises:
        InputError: they are such.
    """
    if pairs.is_graded and (unfit := [name for name in config.loss if name in NEED_LABELS]):
        raise InputError(f"{pairs.name}: got graded scores, loss {unfit[0]!r} needs labels")
    if "mse" in config.loss and (far := [row.target for row in pairs.rows if not -1 <= (row.target or 0) <= 1]):
        raise InputError(f"{pairs.name}: got a score of {far[0]}, loss 'mse' needs cosines, which are in [-1, 1]")
    groups = [group for row in pairs.rows for group in (row.group_a, row.group_b) if group is not None]
    has_partners = any(row.label == 1 for row in pairs.rows) or len(set(groups)) < len(groups)
    if "ranking" in config.loss and not has_partners:
        others = [name for name in config.loss if name != "ranking"]
        if not others:
            raise InputError(f"{pairs.name}: got no positive pair, loss 'ranking' needs some")
        say(
            f"{pairs.name}: graded scores, so loss 'ranking' has no positive pairs to learn from; "
            f"{' and '.join(map(repr, others))} learn alone"
        )


def _fit(
    config: TrainConfig, base: Base, files: Sequence[Sequence[Pair]], dev_sets: Sequence[PairSet], work: Work
) -> None:
    """Train the base itself on the files' pairs, and leave the best epoch's weights in ``work.best``."""
    set_seed(config.seed)
    epochs = epochs_of(config, [len(rows) for rows in files])
    # The model card's examples are else drawn under a progress bar of their own.
    base.model.model_card_data.widget = [{"text": ""}]
    if config.method == "lora":
        base.model.add_adapter(_adapter(config, base))
    num_trained = sum(p.numel() for p in base.model.parameters() if p.requires_grad)
    say(f"training {num_trained:,} of {sum(p.numel() for p in base.model.parameters()):,} weights of {base.name}")
    if not torch.cuda.is_available():
        quicken_dropout(base.model)
    loss = PairLoss(base.model, config.loss, config.matryoshka)
    trainer = SentenceTransformerTrainer(
        model=base.model,
        args=_arguments(config, epochs, work),
        train_dataset=_dataset([row for rows in files for row in rows]),
        loss=loss,
    )
    trainer.remove_callback(PrinterCallback)
    ends = last_steps(epochs, config.batch_size)
    mean = StepMean(base.model, None)
    checkpoint = work.last_checkpoint()
    if checkpoint:
        say(f"going on from {checkpoint.name}")
        loss.load_own(checkpoint)
        mean.load_own(checkpoint)
    with tracking(work, config.name, _public(config.model_dump(mode="json")), step_of(checkpoint)) as log:
        judge = partial(measured, base, dev_sets, config.prompt)
        watch = Watch(judge, mean, work, ends, step_s=seconds_a_step(trainer), log=log)
        trainer.add_callback(SavesOwn(loss, mean))
        trainer.add_callback(watch)
        with watch.stopping_on_sigterm():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if watch.is_stopping:
            raise StoppedError(
                f"{work.folder}: stopped at step {trainer.state.global_step}; the same command goes on from there"
            )
    work.finish()


def _adapter(config: TrainConfig, base: Base) -> PeftLoraConfig:
    return PeftLoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=linear_layers(base.transformer.model),
    )


def _arguments(config: TrainConfig, epochs: Sequence[range], work: Work) -> SentenceTransformerTrainingArguments:
    steps = last_steps(epochs, config.batch_size)[-1]
    on_gpu = torch.cuda.is_available()
    use_bf16 = config.precision == "bf16" or (config.precision == "auto" and (on_gpu or bf16_pays()))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work.checkpoints),
        # The sampler goes over the epochs.
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=min(config.warmup_steps, steps // 10),
        weight_decay=config.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.999,
        bf16=use_bf16,
        use_cpu=not on_gpu,
        seed=config.seed,
        data_seed=config.seed,
        batch_sampler=partial(LengthBatchSampler, epochs=epochs),
        prompts=config.prompt or None,
        save_strategy="steps",
        save_steps=max(_MIN_STEPS_BETWEEN_CHECKPOINTS, steps // _CHECKPOINTS_A_RUN),
        save_total_limit=2,
        logging_steps=10,
        # A loss that is no number is shown as such, not left out of the mean.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )
    if arguments.n_gpu > 1:
        # One process is for one GPU: torch's DataParallel would take batches of another size than was asked for.
        arguments._n_gpu = 1
    return arguments


def _to_bundle(
    config: TrainConfig,
    base: Base,
    texts: Sequence[str],
    chosen_by: tuple[Sequence[PairSet], Sequence[PairSet]],
    parts: Sequence[Work],
    out: Path,
    facts: dict[str, Any],
) -> Bundle:
    work = Work(out)
    calibration_sets, dev_sets = chosen_by
    made = TrainingProvenance(
        run=_published(facts),
        seed=config.seed,
        texts=texts_digest(map(text_hash, texts)),
        versions=versions(),
    )
    tuned = _best(config, parts[0])
    if len(parts) > 1:
        set_to_mean(tuned.transformer.model, (_best(config, part).transformer.model for part in parts[1:]))
        _remember_mean(config, tuned, dev_sets, work, parts)
    if config.min_base_agreement:
        points = interpolate(base, tuned, texts, dev_sets, config.prompt, keep=config.min_base_agreement)
        work.write_frontier(as_json(points))
        made = made.model_copy(update={"alpha": points[-1].factor})
    say("exporting to ONNX and comparing with torch")
    # The weights then give the bundle's embeddings to whoever just calls `encode`.
    tuned.model.prompts, tuned.model.default_prompt_name = {"text": config.prompt}, "text"
    with whole_directory(_weights_folder(out)) as folder:
        tuned.model.save_pretrained(str(folder / config.name), create_model_card=False)
    member, files = export_member(tuned, name=config.name, prompt=config.prompt, matryoshka=config.matryoshka)
    manifest = manifest_of(out.name, member, files, made=made)
    scorer = Scorer(in_memory(manifest, files), plain_runtime())
    manifest = with_decisions(manifest, scorer, calibration_sets, dev_sets, method=config.calibration)
    return write_bundle(out, manifest, files)


def _remember_mean(
    config: TrainConfig, mean: Base, dev_sets: Sequence[PairSet], work: Work, parts: Sequence[Work]
) -> None:
    """Write down the figures of the mean, which stand for an epoch after the base's, and all losses one after another.

    What the parts' epochs were worth stays in their own folders.
    """
    start = parts[0].read_history()[0]
    work.write_history([start, measured(mean, dev_sets, config.prompt, 1, f"mean of {len(parts)} trainings")])
    losses: list[dict[str, float]] = []
    for part in parts:
        done = losses[-1]["step"] if losses else 0
        losses += [entry | {"step": done + entry["step"]} for entry in part.read_losses()]
    work.write_losses(losses)


def _best(config: TrainConfig, work: Work) -> Base:
    """Return the base with the best epoch's weights in it, adapters merged."""
    base = load_base(config.base, config.revision, config.max_length)
    if config.method == "lora":
        with warnings.catch_warnings():
            # peft reads a property that transformers has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            tuned = PeftModel.from_pretrained(base.transformer.model, str(work.best))
        base.transformer.model = tuned.merge_and_unload(safe_merge=True)
    else:
        tuned = SentenceTransformer(str(work.best), device="cpu")
        base.transformer.model.load_state_dict(tuned[0].model.state_dict())
    return base
