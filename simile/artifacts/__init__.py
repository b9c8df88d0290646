"""The files that stages exchange, and their only definition."""

from simile.artifacts.bundle import (
    CARD,
    EVALUATION,
    Bundle,
    Calibration,
    CalibrationMethod,
    Combine,
    EncoderMember,
    FileEntry,
    GoldenPair,
    IsotonicCalibration,
    LexicalMember,
    Manifest,
    PlattCalibration,
    Thresholds,
    file_entry,
)
from simile.artifacts.bundle_files import check_replaceable, read_bundle, write_bundle
from simile.artifacts.card import model_card
from simile.artifacts.documents import Document, read_documents
from simile.artifacts.pairs import Pair, PairSet, named_pair_paths, read_labelled_pairs, read_pairs, write_pairs
from simile.artifacts.reading import bare_name
from simile.artifacts.texts import (
    read_training_texts,
    text_hash,
    text_key,
    texts_digest,
    work_folder,
    write_training_hashes,
    write_training_texts,
)

__all__ = [
    "CARD",
    "EVALUATION",
    "Bundle",
    "Calibration",
    "CalibrationMethod",
    "Combine",
    "Document",
    "EncoderMember",
    "FileEntry",
    "GoldenPair",
    "IsotonicCalibration",
    "LexicalMember",
    "Manifest",
    "Pair",
    "PairSet",
    "PlattCalibration",
    "Thresholds",
    "bare_name",
    "check_replaceable",
    "file_entry",
    "model_card",
    "named_pair_paths",
    "read_bundle",
    "read_documents",
    "read_labelled_pairs",
    "read_pairs",
    "read_training_texts",
    "text_hash",
    "text_key",
    "texts_digest",
    "work_folder",
    "write_bundle",
    "write_pairs",
    "write_training_hashes",
    "write_training_texts",
]
