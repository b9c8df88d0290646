"""Checks where the commit comes from: the file that a build writes, git in a checkout, or nowhere."""

import re
import subprocess

import pytest

from simile import version


def git(folder, *arguments):
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit and no tags."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("first")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


@pytest.fixture
def installed_at(monkeypatch):
    """Returns the commit of a copy of the code in the given folder."""

    def commit(folder):
        (folder / "simile").mkdir(exist_ok=True)
        monkeypatch.setattr(version, "__file__", str(folder / "simile" / "version.py"))
        return version.commit.__wrapped__()

    return commit


def test_checkout_without_tags_has_its_commit(checkout, installed_at):
    assert re.fullmatch(r"[0-9a-f]{40}", installed_at(checkout))


def test_tag_changes_nothing(checkout, installed_at):
    commit = installed_at(checkout)
    git(checkout, "tag", "v1")
    assert installed_at(checkout) == commit


def test_changed_checkout_is_dirty(checkout, installed_at):
    commit = installed_at(checkout)
    (checkout / "file").write_text("second")
    assert installed_at(checkout) == f"{commit}-dirty"


def test_file_of_the_build_wins_over_git(checkout, installed_at):
    (checkout / "simile").mkdir()
    (checkout / "simile" / "COMMIT").write_text("0123abc\n")
    assert installed_at(checkout) == "0123abc"


def test_without_a_repository_there_is_no_commit(tmp_path, installed_at):
    assert installed_at(tmp_path) is None


def test_repository_around_the_folder_is_not_asked(checkout, installed_at):
    inner = checkout / "site-packages"
    inner.mkdir()
    assert installed_at(inner) is None


def test_without_git_there_is_no_commit(checkout, installed_at, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert installed_at(checkout) is None


def test_git_is_asked_once(monkeypatch):
    calls = []
    monkeypatch.setattr(version, "described", lambda folder: calls.append(folder) or "0123abc")
    version.commit.cache_clear()
    assert [version.commit(), version.commit()] == ["0123abc"] * 2
    assert len(calls) == 1
    version.commit.cache_clear()
