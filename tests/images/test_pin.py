"""Tests `make pin` with a stand-in for skopeo, so that no registry is needed."""

import os
import shutil
import subprocess

import pytest

from tests.images.conftest import REPOSITORY

BASE = "docker.io/library/python:3.11-slim-bookworm"
DIGEST, OTHER_DIGEST = "sha256:" + "0" * 64, "sha256:" + "1" * 64


@pytest.fixture
def pin(tmp_path):
    """Runs `make pin` on copies of the Dockerfiles, with the given script in place of skopeo."""
    for name in ("Makefile", "Dockerfile.serve", "Dockerfile.train"):
        shutil.copy(REPOSITORY / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()

    def pin(skopeo):
        (programs / "skopeo").write_text(f"#!/bin/sh\n{skopeo}\n")
        (programs / "skopeo").chmod(0o755)
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(["make", "pin"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done, [(tmp_path / f"Dockerfile.{name}").read_text() for name in ("serve", "train")]

    return pin


def test_pin_writes_the_digest_behind_the_tag_of_both_bases(pin):
    for digest in (DIGEST, OTHER_DIGEST):
        done, dockerfiles = pin(f"echo {digest}")
        assert done.returncode == 0, done.stderr
        assert all(f"ARG BASE={BASE}@{digest}\n" in text for text in dockerfiles)


def test_pin_without_an_answer_changes_nothing_and_says_so(pin):
    done, dockerfiles = pin("exit 1")
    assert done.returncode == 2
    assert "pin: got no digest" in done.stderr
    assert dockerfiles == [(REPOSITORY / f"Dockerfile.{name}").read_text() for name in ("serve", "train")]
