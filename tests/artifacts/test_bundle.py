import hashlib
import json
import math
import os
import shutil

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
    Thresholds,
    check_replaceable,
    file_entry,
    read_bundle,
    write_bundle,
)
from simile.errors import BundleError

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
    """Change the manifest on disk."""
    file = bundle.path / "manifest.json"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


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
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert bundle.manifest.digest == hashlib.sha256(canonical.encode()).hexdigest()
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
    assert manifest_of().digest == "f473225bca0dc37c17e25d46f889feb7350ded4edf165483781cf196bc65d5a0"


@pytest.mark.parametrize("version", [1, 3, "2", None])
def test_unknown_schema_version_is_refused(bundle, version):
    edit(bundle, lambda value: value.update(schema_version=version))
    assert f"got schema version {version!r}, this Simile reads 2" in fault_of(bundle.path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"\xff", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[]", "got schema version None"),
        (b"{}", "got schema version None"),
        (b'{"schema_version": 2}', "name: Field required"),
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
        (lambda value: value["combine"].update(weights={"small": math.nan, "words": 1}), "combine.weights.small"),
        (lambda value: value["combine"].update(weights={"small": 1.0}), "got weights for ['small'], need one for each"),
        (lambda value: value["members"][1].update(name="small"), "need a different name for each"),
        (lambda value: value["members"][0].update(name="../small"), "members.0.encoder.name"),
        (lambda value: value["members"][0].update(kind="pickle"), "members.0"),
        (lambda value: value["members"][0].update(dimension=0), "members.0.encoder.dimension"),
        (lambda value: value["members"][0].update(matryoshka=[8]), "members.0.encoder"),
        (lambda value: value["members"][0].update(matryoshka=[0]), "members.0.encoder"),
        (lambda value: value["members"][0]["model"].update(sha256="abc"), "members.0.encoder.model.sha256"),
        (lambda value: value["calibration"].update(slope=math.nan), "calibration.platt.slope"),
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
    manifest = Manifest.model_validate(manifest_of().model_dump() | {"calibration": ISOTONIC})
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
        ({"scores": [0.1, 0.2, math.nan]}, "calibration.isotonic.scores.2"),
        ({"scores": [0.1, 0.2, math.inf]}, "calibration.isotonic.scores.2"),
        ({"scores": [0.1, 0.2, "high"]}, "calibration.isotonic.scores.2"),
        ({"probabilities": [0.2, 0.1, 0.3]}, "got probabilities that decrease"),
        ({"probabilities": [0.1, 0.2, 1.1]}, "calibration.isotonic.probabilities.2"),
        ({"probabilities": [-0.1, 0.2, 0.3]}, "calibration.isotonic.probabilities.0"),
        ({"probabilities": [0.1, math.nan, 0.3]}, "calibration.isotonic.probabilities.1"),
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
    # A file where another file needs a folder: the disk says no after some files are written.
    manifest, data = renamed("members/small/model.onnx", "members/small/tokenizer.json/model.onnx")
    before = tree(bundle.path)
    with pytest.raises(OSError, match=r"tokenizer\.json"):
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
