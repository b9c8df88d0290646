"""Trained weights -> a bundle: average, interpolate, export, calibrate."""

import warnings
from dataclasses import replace
from pathlib import Path

from peft import PeftModel
from sentence_transformers import SentenceTransformer

from simile.artifacts import (
    Bundle,
    StepLoss,
    TrainingHistory,
    TrainingProvenance,
    read_training_history,
    texts_digest,
    work_folder,
    write_bundle,
    write_training_history,
)
from simile.errors import InputError
from simile.files import whole_directory
from simile.malloc import release_memory
from simile.progress import say
from simile.version import commit
from training.averaging import set_to_mean
from training.config import TrainConfig
from training.decision import with_decisions
from training.dev_scoring import score_epoch
from training.export import export_member, manifest_and_scorer, versions
from training.fit import is_in_bf16
from training.inputs import TrainingInputs
from training.interpolation import Curve, interpolate
from training.torch_encoder import TorchEncoder, load_encoder
from training.work import Work


def weights_folder(out: Path) -> Path:
    """Return the folder beside a bundle that holds its merged weights."""
    return out.with_name(f"{out.name}.weights")


def require_our_weights(folder: Path) -> None:
    """Refuse, by an `InputError`, to replace a folder that holds something other than merged weights."""
    are_ours = folder.is_dir() and all((child / "modules.json").is_file() for child in folder.iterdir())
    if folder.exists() and not are_ours:
        raise InputError(f"{folder}: holds something other than merged weights, need another output")


def to_bundle(inputs: TrainingInputs, base: TorchEncoder, parts: list[Work], out: Path, unseen: Curve) -> Bundle:
    """Return the bundle at ``out`` with the weights that the trainings in ``parts`` have left, and save the weights.

    ``unseen`` is the curve of cross-fitting, which may be empty.
    """
    config, dev_sets, folder = inputs.config, inputs.dev_sets, work_folder(out)
    facts, hashes = inputs.published_facts, inputs.hashes
    made = TrainingProvenance(
        run=facts,
        seed=config.seed,
        texts=texts_digest(hashes),
        trained_texts=inputs.trained_texts,
        versions=versions(),
        commit=commit(),
    )
    tuned = best_encoder(config, parts[0])
    if len(parts) > 1:
        set_to_mean(tuned.transformer.model, (best_encoder(config, part).transformer.model for part in parts[1:]))
        write_training_history(folder, _history_of_mean(inputs, tuned, parts))
    if inputs.trained_texts:
        history = read_training_history(folder)
        write_training_history(folder, history.model_copy(update={"trained_texts": inputs.trained_texts}))
    if minimum := config.min_base_agreement:
        points = interpolate(
            base, tuned, inputs.texts, dev_sets, config.prompts, min_base_agreement=minimum, unseen=unseen
        )
        history = read_training_history(folder)
        write_training_history(folder, history.model_copy(update={"interpolation": tuple(points)}))
        made = made.model_copy(update={"alpha": points[-1].alpha})
    release_memory()
    say("exporting to ONNX and comparing with torch")
    # With the prompts saved, `encode`, `encode_query` and `encode_document` give the bundle's embeddings.
    tuned.model.prompts = dict(zip(("query", "document"), config.prompts, strict=True))
    tuned.model.default_prompt_name = "query"
    with whole_directory(weights_folder(out)) as weights:
        tuned.model.save_pretrained(str(weights / config.name), create_model_card=False)
    member, files = export_member(tuned, name=config.name, prompts=config.prompts, matryoshka=config.matryoshka)
    manifest, scorer = manifest_and_scorer(out, member, files, made)
    manifest = with_decisions(manifest, scorer, inputs.calibration_sets, dev_sets, method=config.calibration)
    return write_bundle(out, manifest, files, hashes)


def _history_of_mean(inputs: TrainingInputs, mean: TorchEncoder, parts: list[Work]) -> TrainingHistory:
    """Return the figures of the base and of the mean, as epochs 0 and 1, and the losses of all parts in a row."""
    histories = [read_training_history(part.folder) for part in parts]
    entry = score_epoch(mean, inputs.dev_sets, inputs.config.prompts, 1, f"mean of {len(parts)} trainings")
    losses: list[StepLoss] = []
    for history in histories:
        num_done = losses[-1].step if losses else 0
        losses += [loss.model_copy(update={"step": num_done + loss.step}) for loss in history.losses]
    return TrainingHistory(epochs=(histories[0].epochs[0], entry), losses=tuple(losses))


def best_encoder(config: TrainConfig, work: Work) -> TorchEncoder:
    """Return the encoder with the weights of the best epoch, with adapters merged."""
    encoder = replace(load_encoder(config.base, config.revision, config.max_length), is_bf16=is_in_bf16(config))
    if config.method == "lora":
        with warnings.catch_warnings():
            # peft reads a property that transformers has renamed.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted = PeftModel.from_pretrained(encoder.transformer.model, str(work.best))
        encoder.transformer.model = adapted.merge_and_unload(safe_merge=True)
    else:
        tuned = SentenceTransformer(str(work.best), device="cpu")
        encoder.transformer.model.load_state_dict(tuned[0].model.state_dict())
    return encoder
