"""The files that the stages exchange, each defined here and nowhere else."""

from simile.artifacts.bundle import (
    CARD,
    EVALUATION,
    MIN_CALIBRATION_PAIRS,
    TEXTS,
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
from simile.artifacts.bundle_files import (
    check_replaceable,
    read_bundle,
    require_digest,
    stored_evaluations,
    write_bundle,
)
from simile.artifacts.card import model_card
from simile.artifacts.documents import Document, read_documents
from simile.artifacts.evaluation_report import (
    BundleReport,
    Difference,
    EvaluatedBundle,
    EvaluatedEndpoint,
    EvaluationReport,
    Figures,
    GuardResult,
    IntervalMethod,
    LexicalFigures,
    Looks,
    NeededPairs,
    SetEvaluation,
    StoredEvaluations,
    unknown_notes,
)
from simile.artifacts.mining_report import (
    AdversarialAuc,
    BaselineFigures,
    CellShare,
    FalseNegatives,
    JointCell,
    MatchReport,
    MinedSet,
    MiningFacts,
    MiningReport,
    Shortcuts,
    SplitSize,
    TargetSet,
)
from simile.artifacts.names import Names
from simile.artifacts.pair import Pair, Tier
from simile.artifacts.pairs import (
    MIN_DEV_PAIRS,
    PairSet,
    count_trained,
    named_pair_paths,
    pairs_of,
    read_labelled_pairs,
    read_pairs,
    require_labels,
    write_pairs,
)
from simile.artifacts.provenance import (
    BaselineProvenance,
    JoinProvenance,
    Provenance,
    RunFacts,
    TrainingProvenance,
    trained_on,
)
from simile.artifacts.reading import Source, bare_name, open_source, source_sha256
from simile.artifacts.rows import ReadOptions, Shard
from simile.artifacts.sampled_pairs import SampledPair, read_sampled_pairs
from simile.artifacts.signature import require_signature, sign_bundle
from simile.artifacts.text_hashes import TextHashes, texts_digest
from simile.artifacts.texts import group_key, read_training_texts, text_hash, text_key, work_folder
from simile.artifacts.training_history import (
    ClassCounts,
    EpochEntry,
    InterpolationPoint,
    StepLoss,
    TrainingHistory,
    read_training_history,
    write_training_history,
)
