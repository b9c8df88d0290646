"""Bundles of untouched encoders, so that these are evaluated and served like trained ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer

from simile.artifacts import (
    BaselineProvenance,
    Bundle,
    LexicalMember,
    ReadOptions,
    check_replaceable,
    file_entry,
    read_documents,
    write_bundle,
)
from simile.artifacts.bundle import Member, Prompts
from simile.errors import InputError
from simile.progress import say
from simile.scoring import pack_vocabulary, words
from simile.version import commit
from training.config import MIN_LENGTH
from training.export import export_member, manifest_and_scorer, versions
from training.torch_encoder import load_encoder, require_fits

LEXICAL = "lexical:"


def make_baseline(
    spec: str,
    out: Path,
    *,
    prompts: Prompts = ("", ""),
    max_length: int | None = None,
    matryoshka: Sequence[int] = (),
    columns: Mapping[str, str] | None = None,
    reading: ReadOptions | None = None,
) -> Bundle:
    """Return the bundle at ``out`` with one untouched member.

    ``spec`` is an encoder as `load_encoder` takes it, or ``lexical:DOCUMENTS`` for the TF-IDF cosine of documents,
    which are read by ``columns`` and ``reading``. ``matryoshka`` has the numbers of dimensions that the encoder was
    trained to be cut to. An `InputError` is raised where one of them cannot be read, or ``out`` is taken.
    """
    check_replaceable(out)
    member: Member
    if spec.startswith(LEXICAL):
        base, revision = "lexical", None
        member, files = _lexical(Path(spec.removeprefix(LEXICAL)), columns, reading or ReadOptions())
    else:
        if max_length is not None and max_length < MIN_LENGTH:
            raise InputError(f"got max_length {max_length}, need at least {MIN_LENGTH}")
        encoder = load_encoder(spec, max_length=max_length)
        require_fits(spec, encoder, prompts, matryoshka)
        base, revision = encoder.name, encoder.revision
        member, files = export_member(encoder, name="encoder", prompts=prompts, matryoshka=tuple(matryoshka))
    made = BaselineProvenance(base=base, revision=revision, versions=versions(), commit=commit())
    manifest, _ = manifest_and_scorer(out, member, files, made)
    return write_bundle(out, manifest, files)


def _lexical(
    documents: Path, columns: Mapping[str, str] | None, reading: ReadOptions
) -> tuple[LexicalMember, dict[str, bytes]]:
    texts = [row.text for row in read_documents(documents, columns, reading)]
    say(f"{documents}: {len(texts):,} rows")
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit(texts)
    path = "members/lexical/lexical.npz"
    files = {path: pack_vocabulary(vectorizer.vocabulary_, vectorizer.idf_)}
    vocabulary, dimension = file_entry(path, files[path]), len(vectorizer.vocabulary_)
    return LexicalMember(name="lexical", vocabulary=vocabulary, dimension=dimension), files
