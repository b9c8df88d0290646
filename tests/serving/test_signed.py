"""A service with --verify-key serves what is signed by the key, at its start, after SIGHUP and as a shadow."""

import signal

import httpx2
import pytest

from simile.artifacts import sign_bundle
from tests.serving.conftest import lead_to
from tests.serving.test_trial import BODY, command, url_in, wait_until


@pytest.fixture
def signed(bundles, signing_keys):
    """The first of the two bundles, which alone is signed."""
    sign_bundle(bundles[0], signing_keys.private)
    return bundles[0]


def test_service_does_not_start_with_a_bundle_without_a_signature(bundles, signing_keys, tmp_path):
    unsigned = bundles[1]
    with command(unsigned.path, tmp_path / "log", "--verify-key", str(signing_keys.public)) as (process, log):
        assert process.wait(30) == 2
        lines = [line for line in log().splitlines() if " INFO " not in line]
    need = f"need one by the private key of {signing_keys.public}"
    assert lines == [f"simile: {unsigned.path}: has no signature (model.sig), {need}"]


def test_sighup_keeps_the_signed_bundle_where_the_next_has_no_signature(bundles, signed, signing_keys, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(signed.path)
    with command(link, tmp_path / "log", "--verify-key", str(signing_keys.public)) as (process, log):
        wait_until(lambda: "ready: " in log())
        lead_to(link, bundles[1].path)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "bundle not replaced" in log())
        assert httpx2.post(f"{url_in(log())}/v1/similarity", json=BODY).json()["bundle"] == signed.identity
        assert "has no signature (model.sig)" in log()
        sign_bundle(bundles[1], signing_keys.private)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"ready: {bundles[1].identity}" in log())


def test_shadow_without_a_signature_is_not_loaded(bundles, signed, signing_keys, tmp_path):
    options = ["--shadow", str(bundles[1].path), "--verify-key", str(signing_keys.public)]
    with command(signed.path, tmp_path / "log", *options) as (_, log):
        wait_until(lambda: "no shadow: " in log())
        assert "has no signature (model.sig)" in log()
        assert httpx2.post(f"{url_in(log())}/v1/similarity", json=BODY).json()["bundle"] == signed.identity
