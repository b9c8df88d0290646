"""Signatures of bundles: by the real commands, and together with model-signing's own command."""

import json
import shutil
import subprocess
import sys

import pytest

from pipeline.cli import main
from simile.artifacts import Manifest, StoredEvaluations, read_bundle, require_signature, sign_bundle
from simile.errors import BundleError, InputError
from simile.scoring import load
from tests.signing_keys import write_keys
from tests.tiny_ensembles import Ensemble


@pytest.fixture
def signed(signing_keys, tmp_path):
    """A bundle of its own with a signature."""
    bundle = Ensemble(tmp_path).write("signed")
    sign_bundle(bundle, signing_keys.private)
    return bundle


@pytest.fixture
def run(capsys):
    """Runs a command; returns its exit code and the one line that it writes."""

    def simile(*arguments):
        code = main([*map(str, arguments)])
        out, err = capsys.readouterr()
        (line,) = (out + err).splitlines()
        return code, line

    return simile


def model_signing(*arguments):
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def restate(bundle):
    """Change the manifest as somebody would who knows the format: its checksum fits."""
    value = bundle.manifest.model_dump(exclude={"checksum"}) | {"calibration": None}
    (bundle.path / "manifest.json").write_text(Manifest.model_validate(value).model_dump_json(indent=2) + "\n")


def replay(bundle):
    """Put the signature of another bundle into this one."""
    signature = (bundle.path / "model.sig").read_bytes()
    other = Ensemble(bundle.path.parent / "other").write("signed", seed=3)
    shutil.rmtree(bundle.path)
    shutil.move(other.path, bundle.path)
    (bundle.path / "model.sig").write_bytes(signature)


def test_signing_and_verifying_print_the_identity_which_stays_as_it_was(run, bundle, signing_keys, tmp_path):
    own = shutil.copytree(bundle.path, tmp_path / "own")
    assert run("sign", own, "--key", signing_keys.private) == (0, bundle.identity)
    assert run("verify", own, "--key", signing_keys.public) == (0, bundle.identity)


ALTERED = {
    "graph": (lambda bundle: flip(bundle.path / "members/small/model.onnx"), "model.onnx is damaged, got sha256"),
    "manifest": (lambda bundle: flip(bundle.path / "manifest.json"), r"manifest\.json: "),
    "restated manifest": (restate, "model.sig signs other files than these"),
    "signature": (lambda bundle: flip(bundle.path / "model.sig"), "model.sig is by another key or damaged"),
    "no signature": (lambda bundle: (bundle.path / "model.sig").unlink(), r"has no signature \(model\.sig\)"),
    "replayed signature": (replay, "model.sig signs other files than these"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_bundle_that_was_altered_after_signing_is_refused(run, signed, signing_keys, what):
    alter, expected = ALTERED[what]
    alter(signed)
    code, line = run("verify", signed.path, "--key", signing_keys.public)
    assert code == 2
    with pytest.raises(BundleError, match=expected):
        raise BundleError(line)


def test_bundle_that_another_key_signed_is_refused(run, signed, tmp_path):
    other = write_keys(tmp_path, "other")
    code, line = run("verify", signed.path, "--key", other.public)
    assert (code, line.partition(" is by another key")[0]) == (2, f"simile: {signed.path}: model.sig")


def test_what_is_verified_is_what_was_read_even_if_the_files_are_exchanged_meanwhile(signed, signing_keys, tmp_path):
    hostile = Ensemble(tmp_path / "hostile").write("signed", seed=3)
    read = read_bundle(hostile.path)
    shutil.copytree(signed.path, hostile.path, dirs_exist_ok=True)
    require_signature(read_bundle(hostile.path), signing_keys.public)
    with pytest.raises(BundleError, match="signs other files than these"):
        require_signature(read, signing_keys.public)


def test_evaluation_and_card_may_change_after_signing(signed, signing_keys):
    (signed.path / "evaluation.json").write_text(StoredEvaluations(reports=()).model_dump_json())
    (signed.path / "README.md").write_text("# Changed\n")
    require_signature(read_bundle(signed.path), signing_keys.public)


def statement(signature, change):
    """Return the signature with another statement, which it does not sign."""
    value = json.loads(signature)
    value["dsseEnvelope"] = change(value["dsseEnvelope"])
    return json.dumps(value).encode()


GARBAGE = {
    "empty": lambda _: b"",
    "no object": lambda _: b"[]",
    "no field": lambda _: b"{}",
    "nested": lambda _: b"[" * 100_000,
    "no text": lambda _: b"\xff\xfe",
    "large": lambda signature: signature + b" " * 2**21,
    "no signatures": lambda signature: statement(signature, lambda envelope: envelope | {"signatures": []}),
    "other statement": lambda signature: statement(signature, lambda envelope: envelope | {"payload": "e30="}),
    "no envelope": lambda signature: statement(signature, lambda _: None),
}


@pytest.mark.parametrize("how", GARBAGE)
def test_file_that_is_no_signature_is_refused_in_one_line(run, signed, signing_keys, how):
    file = signed.path / "model.sig"
    file.write_bytes(GARBAGE[how](file.read_bytes()))
    code, line = run("verify", signed.path, "--key", signing_keys.public)
    assert code == 2
    assert "model.sig" in line
    assert "need one by the private key of" in line
    assert len(line) < 600


def test_command_of_model_signing_verifies_what_simile_has_signed(signed, signing_keys):
    asked = (
        "verify",
        "key",
        signed.path,
        "--signature",
        signed.path / "model.sig",
        "--public_key",
        signing_keys.public,
    )
    assert model_signing(*asked).returncode == 0
    flip(signed.path / "members/small/model.onnx")
    assert model_signing(*asked).returncode == 1


def test_simile_verifies_what_the_command_of_model_signing_has_signed(run, bundle, signing_keys, tmp_path):
    own = shutil.copytree(bundle.path, tmp_path / "own")
    ignored = [argument for name in ("README.md", "evaluation.json") for argument in ("--ignore-paths", own / name)]
    done = model_signing(
        "sign", "key", own, "--signature", own / "model.sig", "--private_key", signing_keys.private, *ignored
    )
    assert done.returncode == 0, done.stderr
    assert run("verify", own, "--key", signing_keys.public) == (0, bundle.identity)


@pytest.mark.parametrize("kind", ["secp384r1", "secp256r1"])
def test_private_key_may_have_a_password(run, bundle, signing_keys, tmp_path, monkeypatch, kind):
    pair = write_keys(tmp_path, "locked", password="planted-secret", kind=kind)
    own = shutil.copytree(bundle.path, tmp_path / "own")
    code, line = run("sign", own, "--key", pair.private)
    assert (code, "password" in line.lower()) == (2, True)
    assert not (own / "model.sig").exists()
    monkeypatch.setenv("SIMILE_KEY_PASSWORD", "planted-secret")
    assert run("sign", own, "--key", pair.private)[0] == 0
    assert run("verify", own, "--key", pair.public)[0] == 0


@pytest.mark.parametrize("kind", ["rsa", "secp256k1", "no key", "missing"])
def test_key_that_cannot_be_used_is_told(run, signed, signing_keys, tmp_path, kind):
    if kind in ("rsa", "secp256k1"):
        pair = write_keys(tmp_path, "odd", kind=kind)
    else:
        pair = signing_keys._replace(private=tmp_path / "odd.pem", public=tmp_path / "odd.public.pem")
    if kind == "no key":
        for file in pair:
            file.write_text("planted-secret")
    before = (signed.path / "model.sig").read_bytes()
    for command, key in (("sign", pair.private), ("verify", pair.public)):
        code, line = run(command, signed.path, "--key", key)
        assert (code, line.startswith(f"simile: {key}: ")) == (2, True)
        assert "planted" not in line
    assert (signed.path / "model.sig").read_bytes() == before


def test_missing_library_is_told_with_what_installs_it(run, bundle, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "model_signing.verifying", None)
    code, line = run("verify", bundle.path, "--key", tmp_path / "public.pem")
    assert code == 2
    assert line.endswith("need the package model_signing, which is not installed: pip install 'simile-pairs[sign]'")


def test_loading_with_a_key_refuses_what_is_not_signed(bundle, signed, signing_keys):
    assert (
        load(signed.path, device="cpu", precision="fp32", verify_key=signing_keys.public).bundle.identity
        == signed.identity
    )
    with pytest.raises(BundleError, match="has no signature"):
        load(bundle.path, device="cpu", precision="fp32", verify_key=signing_keys.public)


def test_score_refuses_what_is_not_signed(run, bundle, signed, signing_keys):
    assert run("score", signed.path, "a", "b", "--verify-key", signing_keys.public)[0] == 0
    code, line = run("score", bundle.path, "a", "b", "--verify-key", signing_keys.public)
    assert (code, "has no signature" in line) == (2, True)


@pytest.mark.parametrize(
    ("command", "flag", "row"), [("score", "--pairs", '"text_a":"a","text_b":"b"'), ("embed", "--texts", '"text":"a"')]
)
def test_bulk_work_refuses_what_is_not_signed(run, bundle, signing_keys, tmp_path, command, flag, row):
    (tmp_path / "in.jsonl").write_text(f"{{{row}}}\n")
    given = (flag, tmp_path / "in.jsonl", "--out", f"{tmp_path / 'out'}/", "--verify-key", signing_keys.public)
    code, line = run(command, bundle.path, *given)
    assert (code, "has no signature" in line) == (2, True)
    assert not (tmp_path / "out").exists()


def test_signature_goes_through_a_bucket_and_pull_refuses_what_has_none(run, bundle, signed, signing_keys, tmp_path):
    pulls = {}
    for one in (bundle, signed):
        _, address = run("push", one.path, f"file://{tmp_path}/store/{one.manifest.name}")
        pulls[one.manifest.name] = run(
            "pull", address, tmp_path / "out" / one.path.name, "--verify-key", signing_keys.public
        )
    assert pulls["signed"] == (0, signed.identity)
    assert (pulls["tiny"][0], "has no signature" in pulls["tiny"][1]) == (2, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["signed"]


def test_pull_refuses_a_bundle_without_a_signature_that_is_there_already(run, signed, signing_keys, tmp_path):
    _, address = run("push", signed.path, f"file://{tmp_path}/store")
    there = shutil.copytree(signed.path, tmp_path / "there")
    (there / "model.sig").unlink()
    code, line = run("pull", address, there, "--verify-key", signing_keys.public)
    assert (code, line.endswith(f"; remove {there} and pull again")) == (2, True)


def test_link_as_a_signature_is_refused(signed, signing_keys, tmp_path):
    (signed.path / "model.sig").rename(tmp_path / "elsewhere")
    (signed.path / "model.sig").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"model\.sig is a link, need plain files only"):
        read_bundle(signed.path)
