"""One training of an encoder by sentence-transformers' trainer, in one process or in several that train together."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from peft import LoraConfig
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from simile.artifacts import Pair
from simile.artifacts.stored_pairs import write_rows
from simile.hardware import bf16_pays, usable_cores
from simile.malloc import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt
from training.config import TrainConfig
from training.dropout import quicken_dropout
from training.estimate import seconds_per_step
from training.losses import PairLoss, loss_label
from training.processes import first_says, num_processes, num_processes_here, rank, share, wait_for_all
from training.sampler import LengthBatchSampler, last_steps
from training.torch_encoder import TorchEncoder, linear_layers, load_encoder

_SCHEMA = pa.schema({"text_a": pa.string(), "text_b": pa.string(), "label": pa.list_(pa.float64())})
_CHECKPOINTS_PER_RUN, _MIN_STEPS_BETWEEN_CHECKPOINTS = 20, 10
MAX_EAGER_TOKENS = 512
"""The longest texts whose attention weights are held in memory on a CPU."""
_KEPT_BLOCK_BYTES = 2**30


@dataclass(frozen=True)
class Fit:
    """One training, as every process that takes part in it needs to know it."""

    config: TrainConfig
    epochs: Sequence[range]
    """Indices of the pairs of each epoch."""
    dataset: Dataset
    """The pairs and their `loss_label`."""
    teacher_SND: Tensor | None
    checkpoints: Path
    """The folder of the checkpoints, which all processes must share."""
    checkpoint: Path | None
    """The checkpoint to resume from."""

    @property
    def last_steps(self) -> list[int]:
        """The number of steps done at the end of each epoch."""
        return last_steps(self.epochs, self.config.batch_size)


class PairTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """A trainer whose processes share each batch, where accelerate would give each process batches of its own."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the batches, which are whole in each process except for the tokens."""
        loader: DataLoader[Any]
        if num_processes() == 1:
            loader = super().get_train_dataloader()
        else:
            loader = self._build_dataloader(self.train_dataset, self.args.train_batch_size, dataset_kind="train")
        return loader


class _HelperCallback(TrainerCallback):  # type: ignore[misc]
    """What a process that helps does where the first process' `TrainingCallback` waits for it."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop after the step after which the first process stops."""
        if first_says(value=False):
            control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report that this process has written its random state."""
        wait_for_all()


def prepare_process() -> None:
    """Use as many threads as this process has cores, of those that it shares with the others on this machine.

    Memory is kept for the next step. Otherwise glibc gives the gradient of the word embeddings, 47 MB for MiniLM, back
    to the system in each pass, and the page faults of the next one take up to a fifth of a step.
    """
    torch.set_num_threads(max(1, usable_cores() // num_processes_here()))
    # Older versions of glibc refuse so large a threshold. The other option alone would end the growth of their own.
    if mallopt(M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES):
        mallopt(M_TRIM_THRESHOLD, _KEPT_BLOCK_BYTES)


def encoder_to_train(config: TrainConfig) -> TorchEncoder:
    """Return the base encoder with the dropout of training."""
    # Long texts take torch's fused attention, which supports no dropout on a CPU. The other dropouts stay.
    encoder = load_encoder(config.base, config.revision, config.max_length, attention_dropout=False)
    return replace(encoder, is_bf16=is_in_bf16(config))


def is_in_bf16(config: TrainConfig) -> bool:
    """Return whether training, and scoring between its steps, uses bf16 autocast."""
    return config.precision == "bf16" or (config.precision == "auto" and (torch.cuda.is_available() or bf16_pays()))


def dataset_of(pairs: Iterable[Pair], file: Path, texts: Mapping[str, int] | None = None) -> Dataset:
    """Return the pairs as the trainer reads them, from a file that it writes: not all of them need to fit into memory.

    ``texts`` are those of `loss_label`.
    """
    rows = ({"text_a": one.text_a, "text_b": one.text_b, "label": loss_label(one, texts)} for one in pairs)
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        write_rows(writer, rows, _SCHEMA)
    # The collator would make float32 of labels, in which neighbouring numbers of texts are equal.
    label = {"type": "torch", "columns": ["label"], "dtype": torch.float64, "output_all_columns": True}
    return Dataset.from_file(str(file)).with_format(**label)


def trainer_of(fit: Fit, encoder: TorchEncoder) -> PairTrainer:
    """Return the trainer of the encoder, to which adapters are added for LoRA, at the checkpoint where there is one."""
    config = fit.config
    set_seed(config.seed)
    # Otherwise the model card's examples are drawn, under a progress bar of their own.
    encoder.model.model_card_data.widget = [{"text": ""}]
    if config.method == "lora":
        lora, layers = config.lora, linear_layers(encoder.transformer.model)
        adapters = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=layers)
        encoder.model.add_adapter(adapters)
    for module in encoder.dense:
        module.requires_grad_(False)
    if not torch.cuda.is_available():
        quicken_dropout(encoder.model)
        # torch's fused attention saves memory. In bf16, its backward pass on a CPU takes twice to ten times the time.
        if encoder.max_length <= MAX_EAGER_TOKENS:
            encoder.transformer.model.set_attn_implementation("eager")
    trainer = PairTrainer(
        model=encoder.model,
        args=_arguments(fit),
        train_dataset=fit.dataset,
        loss=PairLoss(encoder.model, config.loss, config.matryoshka, fit.teacher_SND, have_sides=config.has_sides),
    )
    trainer.remove_callback(PrinterCallback)
    if num_processes() > 1:
        collator = trainer.data_collator
        collator.preprocess_fn = partial(_preprocess_share, collator.preprocess_fn)
    if fit.checkpoint:
        trainer.loss.load_own(fit.checkpoint)
    return trainer


def train_with(trainer: PairTrainer, fit: Fit) -> None:
    """Train to the end, or until a callback stops the training."""
    with warnings.catch_warnings():
        # accelerate does not know the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        trainer.train(resume_from_checkpoint=str(fit.checkpoint) if fit.checkpoint else None)


def help_to_fit(fit: Fit) -> None:
    """Take part in a training that the first process leads."""
    prepare_process()
    trainer = trainer_of(fit, encoder_to_train(fit.config))
    # The same dropout in all processes would drop the same places of different texts.
    set_seed(fit.config.seed + rank())
    seconds_per_step(trainer)
    trainer.add_callback(_HelperCallback())
    train_with(trainer, fit)


def _preprocess_share(preprocess: Callable[..., dict[str, Any]], texts: Sequence[str], **others: Any) -> dict[str, Any]:
    return preprocess(share(texts), **others)


def _arguments(fit: Fit) -> SentenceTransformerTrainingArguments:
    config, num_steps, on_gpu = fit.config, fit.last_steps[-1], torch.cuda.is_available()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(fit.checkpoints),
        # The sampler goes over the epochs.
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(config.warmup_share * num_steps),
        weight_decay=config.weight_decay,
        bf16=is_in_bf16(config),
        use_cpu=not on_gpu,
        seed=config.seed,
        data_seed=config.seed,
        batch_sampler=partial(LengthBatchSampler, epochs=fit.epochs),
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
        # Buffers are constants, and the processes may need different numbers of passes for their shares.
        ddp_broadcast_buffers=False,
        # Poolers get no gradient. Adapters are on the layers that the embedding depends on.
        ddp_find_unused_parameters=config.method == "full",
        # The sampler yields short batches all the same; otherwise sentence-transformers sets this with a warning.
        dataloader_drop_last=num_processes() > 1,
    )
    if arguments.n_gpu > 1:
        # One process uses one GPU: torch's DataParallel would make batches of another size than the config's.
        arguments._n_gpu = 1
    return arguments
