import hashlib
import json
import math
import os
import shutil
import tracemalloc
from contextlib import suppress

import pytest

from simile.artifacts import (
    CARD,
    EVALUATION,
    TEXTS,
    Bundle,
    Combine,
    EncoderMember,
    GoldenPair,
    IsotonicCalibration,
    LexicalMember,
    Manifest,
    PlattCalibration,
    StoredEvaluations,
    Thresholds,
    check_replaceable,
    file_entry,
    read_bundle,
    require_digest,
    stored_evaluations,
    write_bundle,
)
from simile.errors import BundleError, InputError
from tests.evaluation_reports import evaluation_report

DATA = {
    "members/small/model.onnx": b"a graph",
    "members/small/model.fp16.onnx": b"half a graph",
    "members/small/tokenizer.json": b"{}",
    "members/words/lexical.npz": b"words",
}
"""What a bundle of both kinds lists; reading verifies bytes and does not look into them."""


def manifest_of(data=DATA, *, name="tiny") -> Manifest:
    entry = {path: file_entry(path, content) for path, content in data.items()}
    return Manifest(
        name=name,
        members=(
            EncoderMember(
                name="small",
                model=entry["members/small/model.onnx"],
                model_fp16=entry["members/small/model.fp16.onnx"],
                tokenizer=entry["members/small/tokenizer.json"],
                base="someone/encoder",
                revision="abc",
                pooling="cls",
                prompt="query: ",
                max_length=64,
                pad_id=1,
                dimension=8,
            ),
            LexicalMember(name="words", vocabulary=entry["members/words/lexical.npz"], dimension=3),
        ),
        combine=Combine(method="learned", weights={"small": 0.7, "words": 0.3}),
        calibration=PlattCalibration(slope=7.25, intercept=-3.1, positive_share=0.5),
        thresholds=Thresholds(best_f1=0.41, precision_95=None),
        golden=(GoldenPair(text_a="é", text_b="b", scores={"small": 0.1 + 0.2, "words": 1e-7}),),
        made={
            "by": "simile train",
            "run": {
                "config": {"rate": 2e-5, "layers": [1, 2]},
                "base": None,
                "version": "1",
                "pairs": [],
                "dev": {},
                "calibration": [],
            },
            "seed": 3,
            "texts": "f00d",
        },
    )


def tree(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fault_of(path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def edit(bundle: Bundle, change) -> None:
    """Change the manifest on disk, and its checksum accordingly."""
    file = bundle.path / "manifest.json"
    value = json.loads(file.read_text())
    del value["checksum"]
    change(value)
    file.write_text(json.dumps(value | {"checksum": checksum_of(value)}))


def checksum_of(value) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return write_bundle(tmp_path / "bundle", manifest_of(), DATA)


def test_what_was_written_is_read_back(bundle):
    again = read_bundle(bundle.path)
    assert again.manifest == bundle.manifest == manifest_of()
    assert again.data == bundle.data == DATA


def test_bundle_is_its_manifest_and_what_that_lists(bundle):
    assert set(tree(bundle.path)) == {"manifest.json", CARD, *DATA}


def test_nothing_else_is_left_where_a_bundle_was_written(bundle):
    assert os.listdir(bundle.path.parent) == ["bundle"]


def test_bundle_without_a_card_is_whole(bundle):
    (bundle.path / CARD).unlink()
    assert read_bundle(bundle.path).identity == bundle.identity


def test_digest_is_the_sha256_of_the_canonical_manifest(bundle):
    value = json.loads((bundle.path / "manifest.json").read_text())
    assert value.pop("checksum") == bundle.manifest.digest == checksum_of(value)
    assert bundle.identity == f"tiny@sha256:{bundle.manifest.digest}"


def test_digest_is_the_same_however_the_manifest_is_set_out(bundle):
    digest = bundle.manifest.digest
    edit(bundle, lambda value: value.update(dict(sorted(value.items(), reverse=True))))
    assert read_bundle(bundle.path).manifest.digest == digest


def test_cuts_of_the_embedding_are_in_the_manifest_only_where_there_are_some(bundle):
    members = json.loads((bundle.path / "manifest.json").read_text())["members"]
    assert "matryoshka" not in members[0]
    edit(bundle, lambda value: value["members"][0].update(matryoshka=[4, 2]))
    assert read_bundle(bundle.path).manifest.members[0].matryoshka == (4, 2)


def test_digest_is_the_same_in_every_copy(bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "copy")
    assert read_bundle(tmp_path / "copy").identity == bundle.identity


def test_digest_depends_neither_on_the_evaluation_nor_on_the_card(bundle):
    for name, text in ((EVALUATION, '{"reports": []}'), (EVALUATION, "anything"), (CARD, "a"), (TEXTS, "a")):
        (bundle.path / name).write_text(text)
        assert read_bundle(bundle.path).identity == bundle.identity


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(name="other"),
        lambda value: value["made"].update(seed=4),
        lambda value: value["combine"]["weights"].update(small=0.3, words=0.7),
        lambda value: value["members"][0].update(prompt="passage: "),
    ],
)
def test_digest_depends_on_all_that_the_manifest_says(bundle, change):
    edit(bundle, change)
    assert read_bundle(bundle.path).manifest.digest != bundle.manifest.digest


def test_other_content_gives_another_digest():
    assert manifest_of(DATA | {"members/words/lexical.npz": b"Words"}).digest != manifest_of().digest


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("position", [0, -1])
def test_one_flipped_bit_in_any_file_is_found(bundle, name, position):
    content = bytearray(DATA[name])
    content[position] ^= 1
    (bundle.path / name).write_bytes(content)
    assert f"{name} is damaged" in fault_of(bundle.path)


@pytest.mark.parametrize("name", ["manifest.json", EVALUATION])
def test_every_flipped_bit_of_what_holds_a_checksum_is_found(bundle, name):
    reports = StoredEvaluations(reports=(evaluation_report(prior=0.1 + 0.2, leaked_texts={"é": 1}),))
    (bundle.path / EVALUATION).write_text(reports.model_dump_json(indent=2) + "\n")
    file = bundle.path / name
    content = file.read_bytes()
    accepted = []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with suppress(BundleError):
            stored_evaluations(read_bundle(bundle.path))
            accepted.append(place)
    file.write_bytes(content)
    assert stored_evaluations(read_bundle(bundle.path)) == reports.reports
    assert accepted == []


def test_digits_beyond_a_numbers_precision_are_refused(bundle):
    file = bundle.path / "manifest.json"
    text = file.read_text()
    assert "0.30000000000000004" in text
    file.write_text(text.replace("0.30000000000000004", "0.30000000000000005"))
    assert "got the number 0.30000000000000005, need 0.30000000000000004" in fault_of(bundle.path)


@pytest.mark.parametrize("name", ["manifest.json", "members/small/model.onnx", EVALUATION, CARD])
def test_fifo_in_place_of_a_file_is_refused_and_does_not_block(bundle, name):
    (bundle.path / name).unlink(missing_ok=True)
    os.mkfifo(bundle.path / name)
    assert f"{name} is a device, FIFO or socket" in (fault := fault_of(bundle.path)) or "has no manifest.json" in fault


def test_file_that_became_a_fifo_after_it_was_verified_is_refused_and_does_not_block(bundle):
    (bundle.path / "members/small/model.onnx").unlink()
    os.mkfifo(bundle.path / "members/small/model.onnx")
    with pytest.raises(
        BundleError, match=r"members/small/model\.onnx is listed but cannot be read \(Not a regular file\)"
    ):
        bundle.data["members/small/model.onnx"]


def test_file_that_changed_after_it_was_verified_is_refused(bundle):
    (bundle.path / "members/small/model.onnx").write_bytes(b"A graph")
    with pytest.raises(BundleError, match=r"members/small/model\.onnx is damaged"):
        bundle.data["members/small/model.onnx"]


def test_sparse_file_that_is_larger_than_the_manifest_says_is_refused_unread(bundle):
    os.truncate(bundle.path / "members/small/model.onnx", 2**42)
    assert f"model.onnx is damaged, got {2**42} bytes, need 7" in fault_of(bundle.path)


def test_verifying_a_bundle_keeps_no_file_in_memory(tmp_path):
    data = DATA | {"members/small/model.onnx": bytes(64 * 2**20)}
    bundle = write_bundle(tmp_path / "bundle", manifest_of(data), data)
    tracemalloc.start()
    read_bundle(bundle.path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_digest_from_outside_is_required(bundle, prefix):
    require_digest(bundle, None)
    require_digest(bundle, prefix + bundle.manifest.digest)
    with pytest.raises(BundleError, match=f"got the digest {bundle.manifest.digest}, need {prefix}0000"):
        require_digest(bundle, prefix + "0" * 64)


@pytest.mark.parametrize("name", DATA)
def test_missing_file_is_named(bundle, name):
    (bundle.path / name).unlink()
    assert f"{name} is listed but cannot be read (No such file or directory)" in fault_of(bundle.path)


def test_folder_in_place_of_a_file_is_refused(bundle):
    (bundle.path / "members/words/lexical.npz").unlink()
    (bundle.path / "members/words/lexical.npz").mkdir()
    assert "members/words/lexical.npz is listed but cannot be read" in fault_of(bundle.path)


@pytest.mark.parametrize("name", ["extra.txt", "members/small/model.pkl", ".hidden", "members/small/manifest.json"])
def test_file_that_the_manifest_does_not_list_is_refused(bundle, name):
    (bundle.path / name).write_bytes(b"")
    assert f"holds {name}, which its manifest does not list" in fault_of(bundle.path)


@pytest.mark.parametrize("name", [*DATA, EVALUATION, CARD, TEXTS])
def test_link_in_place_of_a_file_is_refused(bundle, tmp_path, name):
    file = bundle.path / name
    outside = tmp_path / "outside"
    outside.write_bytes(file.read_bytes() if file.is_file() else b"{}")
    file.unlink(missing_ok=True)
    file.symlink_to(outside)
    assert f"{name} is a link, need plain files only" in fault_of(bundle.path)


def test_link_in_place_of_the_manifest_is_refused(bundle, tmp_path):
    shutil.move(bundle.path / "manifest.json", tmp_path / "outside")
    (bundle.path / "manifest.json").symlink_to(tmp_path / "outside")
    assert "not a bundle, it has no manifest.json" in fault_of(bundle.path)


def test_linked_folder_is_refused(bundle, tmp_path):
    shutil.move(bundle.path / "members" / "small", tmp_path / "small")
    (bundle.path / "members" / "small").symlink_to(tmp_path / "small")
    assert "members/small is a link, need plain files only" in fault_of(bundle.path)


def test_dangling_link_is_refused(bundle):
    (bundle.path / "extra").symlink_to("nowhere")
    assert "extra is a link" in fault_of(bundle.path)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "members/../../outside",
        "members/small/../small/model.onnx",
        "members\\small\\model.onnx",
        "./members/small/model.onnx",
        "members//small/model.onnx",
        "members/small/model.onnx/",
        "manifest.json",
        EVALUATION,
        CARD,
        TEXTS,
        "",
        "model\0.onnx",
    ],
)
def test_path_that_is_no_plain_path_inside_is_refused(bundle, tmp_path, name):
    (tmp_path / "outside").write_bytes(DATA["members/small/model.onnx"])
    edit(bundle, lambda value: value["members"][0]["model"].update(path=name))
    assert f"the manifest lists {name!r}, need a plain path inside the bundle" in fault_of(bundle.path)


def test_absolute_path_is_refused_even_into_the_bundle(bundle):
    name = str(bundle.path / "members/small/model.onnx")
    edit(bundle, lambda value: value["members"][0]["model"].update(path=name))
    assert "need a plain path inside the bundle" in fault_of(bundle.path)


def test_one_path_with_two_contents_is_refused(bundle):
    def change(value):
        value["members"][1]["vocabulary"]["path"] = "members/small/model.onnx"

    edit(bundle, change)
    assert "lists members/small/model.onnx with two contents" in fault_of(bundle.path)


def test_digest_of_a_manifest_is_what_it_was_when_it_was_written():
    # Written down from the version that introduced this schema: bundles are identified by their digest.
    assert manifest_of().digest == "e8d7b208e3b3fa7e7cc5e0577ded61b76d7faa22026629f17814bddd14e9d7ef"


@pytest.mark.parametrize("version", [1, 2, 4, "3", None, 10**400])
def test_unknown_schema_version_is_refused(bundle, version):
    edit(bundle, lambda value: value.update(schema_version=version))
    fault = fault_of(bundle.path)
    assert f"got schema version {str(version)[:40] if version != '3' else repr(version)}, this Simile reads 3" in fault
    assert ("make the bundle anew" in fault) == (version in (1, 2))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"\xff", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[]", "got schema version None"),
        (b"{}", "got schema version None"),
        (b'{"schema_version": 3}', "name: Field required"),
        ('{"schema_version": 3}'.encode("utf-16"), "no valid JSON"),
        (b'{"schema_version": 3, "schema_version": 3}', "no valid JSON (an object has a key twice)"),
        (b'{"schema_version": 3' + b"0" * 5000 + b"}", "no valid JSON"),
        (b'{"schema_version": 3.00000000000000001}', "got the number 3.00000000000000001, need 3.0"),
        (b'{"schema_version": 1e999}', "got the number 1e999"),
        (b'{"schema_version": 1e-' + b"9" * 30 + b"}", "got the number 1e-999"),
        (b'{"schema_version": NaN}', "got NaN, need a finite number"),
        (b" " * (2**26 + 1), "got more than 64 MiB"),
    ],
)
def test_manifest_that_is_none_is_refused(bundle, content, fault):
    (bundle.path / "manifest.json").write_bytes(content)
    assert fault in fault_of(bundle.path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda value: value["combine"].update(weights={"small": 0.7, "words": 0.2}),
            "weights that sum to 0.9, need 1",
        ),
        (lambda value: value["combine"].update(weights={"small": 1.5, "words": -0.5}), "combine.weights.words"),
        (
            lambda value: value["combine"].update(weights={"small": math.nan, "words": 1}),
            "got NaN, need a finite number",
        ),
        (lambda value: value["combine"].update(weights={"small": 1.0}), "got weights for ['small'], need one for each"),
        (lambda value: value["members"][1].update(name="small"), "need a different name for each"),
        (lambda value: value["members"][0].update(name="../small"), "members.0.encoder.name"),
        (lambda value: value["members"][0].update(kind="pickle"), "members.0"),
        (lambda value: value["members"][0].update(dimension=0), "members.0.encoder.dimension"),
        (lambda value: value["members"][0].update(matryoshka=[8]), "members.0.encoder"),
        (lambda value: value["members"][0].update(matryoshka=[0]), "members.0.encoder"),
        (lambda value: value["members"][0]["model"].update(sha256="abc"), "members.0.encoder.model.sha256"),
        (lambda value: value["calibration"].update(slope=math.inf), "got Infinity, need a finite number"),
        (lambda value: value["members"][0]["model"].update(size_bytes=2**31), "members.0.encoder.model.size_bytes"),
        (lambda value: value["members"][0].update(dimension=10**30), "members.0.encoder.dimension"),
        (lambda value: value.update(golden=[]), "golden: Tuple should have at least 1 item"),
        (lambda value: value["golden"][0].update(text_a="\ud800"), "surrogates not allowed"),
        (lambda value: value["made"]["run"]["config"].update(x="\ud800"), "surrogates not allowed"),
        (lambda value: value["made"]["run"]["config"].update(x=json.loads("[" * 900 + "]" * 900)), ""),
        (lambda value: value["golden"][0].update(scores={"small": 0.3}), "golden pair without a score of each"),
        (lambda value: value.update(members=[]), "members"),
        (lambda value: value.update(surprise=1), "surprise: Extra inputs are not permitted"),
    ],
)
def test_manifest_that_says_something_impossible_is_refused(bundle, change, fault):
    edit(bundle, change)
    message = fault_of(bundle.path)
    assert fault in message
    assert "\n" not in message


ISOTONIC = {
    "method": "isotonic",
    "scores": [-0.25, 0.5, 0.75],
    "probabilities": [0.0, 0.5, 1.0],
    "positive_share": 0.5,
    "error": 0.03125,
}


def test_isotonic_calibration_is_read_back_the_same(tmp_path):
    manifest = Manifest.model_validate(manifest_of().model_dump(exclude={"checksum"}) | {"calibration": ISOTONIC})
    bundle = write_bundle(tmp_path / "bundle", manifest, DATA)
    assert read_bundle(bundle.path).manifest.calibration == IsotonicCalibration(**ISOTONIC)
    assert bundle.manifest.digest != manifest_of().digest


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"method": "magic"}, "calibration: Input tag 'magic'"),
        ({"slope": 1.0}, "calibration.isotonic.slope: Extra inputs are not permitted"),
        ({"scores": [0.1, 0.2]}, "got 2 scores and 3 probabilities, need as many"),
        ({"scores": [], "probabilities": []}, "calibration.isotonic.scores"),
        ({"scores": [0.1, 0.3, 0.2]}, "got scores that do not increase"),
        ({"scores": [0.1, 0.2, 0.2]}, "got scores that do not increase"),
        ({"scores": [0.1, 0.2, math.nan]}, "got NaN, need a finite number"),
        ({"scores": [0.1, 0.2, math.inf]}, "got Infinity, need a finite number"),
        ({"scores": [0.1, 0.2, "high"]}, "calibration.isotonic.scores.2"),
        ({"probabilities": [0.2, 0.1, 0.3]}, "got probabilities that decrease"),
        ({"probabilities": [0.1, 0.2, 1.1]}, "calibration.isotonic.probabilities.2"),
        ({"probabilities": [-0.1, 0.2, 0.3]}, "calibration.isotonic.probabilities.0"),
        ({"probabilities": [0.1, math.nan, 0.3]}, "got NaN, need a finite number"),
        ({"positive_share": 0}, "calibration.isotonic.positive_share"),
        ({"positive_share": 1}, "calibration.isotonic.positive_share"),
        ({"error": 1.5}, "calibration.isotonic.error"),
        (
            {"scores": [i / 10_000 for i in range(10_001)], "probabilities": [0.5] * 10_001},
            "calibration.isotonic.scores: Tuple should have at most 10000 items",
        ),
    ],
)
def test_calibration_that_is_no_monotone_curve_is_refused(bundle, changed, fault):
    edit(bundle, lambda value: value.update(calibration=ISOTONIC | changed))
    message = fault_of(bundle.path)
    assert fault in message
    assert "\n" not in message


def test_weights_may_be_off_by_rounding(bundle):
    edit(bundle, lambda value: value["combine"].update(weights={"small": 1 / 3, "words": 0.66666667}))
    assert read_bundle(bundle.path).manifest.combine.weights["small"] == 1 / 3


@pytest.mark.parametrize("make", ["nothing", "file", "empty folder"])
def test_what_is_no_bundle_is_refused(tmp_path, make):
    path = tmp_path / "x"
    if make == "file":
        path.write_text("hello")
    if make == "empty folder":
        path.mkdir()
    assert "not a bundle" in fault_of(path) or "no such bundle" in fault_of(path)


def test_bundle_reached_through_a_link_stays_what_it_was_when_the_link_moves(tmp_path):
    old = write_bundle(tmp_path / "old", manifest_of(name="old"), DATA)
    new = write_bundle(tmp_path / "new", manifest_of(name="new"), DATA)
    link = tmp_path / "current"
    link.symlink_to(old.path)
    first = read_bundle(link)
    link.unlink()
    link.symlink_to(new.path)
    assert first.path == old.path.resolve()
    assert read_bundle(first.path).identity == old.identity
    assert read_bundle(link).identity == new.identity


def test_new_bundle_takes_the_place_of_the_old_as_a_whole(bundle):
    (bundle.path / EVALUATION).write_text("{}")
    data = {path: content + b"2" for path, content in DATA.items()}
    new = write_bundle(bundle.path, manifest_of(data), data)
    assert new.data == data
    assert set(tree(bundle.path)) == {"manifest.json", CARD, *DATA}
    assert os.listdir(bundle.path.parent) == ["bundle"]


@pytest.mark.parametrize(
    ("manifest", "data"),
    [
        pytest.param(manifest_of(), DATA | {"members/extra": b""}, id="more than listed"),
        pytest.param(manifest_of(), {"members/small/model.onnx": b"a graph"}, id="less than listed"),
        pytest.param(manifest_of(), DATA | {"members/small/model.onnx": b"another"}, id="other bytes than listed"),
    ],
)
def test_data_that_the_manifest_does_not_describe_leave_the_old_bundle(bundle, manifest, data):
    before = tree(bundle.path)
    with pytest.raises(BundleError):
        write_bundle(bundle.path, manifest, data)
    assert tree(bundle.path) == before
    assert os.listdir(bundle.path.parent) == ["bundle"]


def renamed(old: str, new: str) -> tuple[Manifest, dict[str, bytes]]:
    manifest = manifest_of()
    encoder = manifest.members[0]
    model = encoder.model.model_copy(update={"path": new})
    members = (encoder.model_copy(update={"model": model}), *manifest.members[1:])
    data = {new if path == old else path: content for path, content in DATA.items()}
    return manifest.model_copy(update={"members": members}), data


def test_nothing_is_written_outside_the_bundle(bundle, tmp_path):
    manifest, data = renamed("members/small/model.onnx", "../outside")
    with pytest.raises(BundleError, match="need a plain path inside the bundle"):
        write_bundle(bundle.path, manifest, data)
    assert os.listdir(tmp_path) == ["bundle"]


def test_failure_half_way_leaves_the_old_bundle(bundle):
    # A file where another file needs a folder: one of them is refused after some files are written.
    manifest, data = renamed("members/small/model.onnx", "members/small/tokenizer.json/model.onnx")
    before = tree(bundle.path)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        write_bundle(bundle.path, manifest, data)
    assert tree(bundle.path) == before
    assert os.listdir(bundle.path.parent) == ["bundle"]


def test_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(BundleError, match="holds files that are not a bundle"):
        write_bundle(tmp_path / "thesis", manifest_of(), DATA)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["my bundle", ".hidden", "-x", "x" * 65, "ü"])
def test_folder_of_a_name_that_no_bundle_has_is_refused(tmp_path, name):
    with pytest.raises(BundleError, match="got a bundle named"):
        write_bundle(tmp_path / name, manifest_of(), DATA)
    assert os.listdir(tmp_path) == []


def test_file_and_link_are_not_replaced(bundle, tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(bundle.path)
    for name in ("file", "link"):
        with pytest.raises(BundleError, match="is a file or a link"):
            check_replaceable(tmp_path / name)


def test_new_place_empty_folder_and_older_bundle_are_replaceable(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new", tmp_path / "empty", bundle.path):
        check_replaceable(path)


def test_bundle_is_written_into_folders_that_are_not_there_yet(tmp_path):
    assert write_bundle(tmp_path / "a" / "b" / "bundle", manifest_of(), DATA).manifest.name == "tiny"
