"""Signatures of bundles, as OpenSSF model-signing makes and verifies them (https://github.com/sigstore/model-transparency).

`model.sig` states the SHA-256 of the manifest and of every file that the manifest lists. What may change later (the
evaluations, the model card) is not signed; the hashes of the training texts are by the manifest, which states theirs.

Signing and verifying take these hashes from a `Bundle`: from the bytes that were parsed, and the ones that its `data`
compares whatever it reads with. No file is read a second time, so none can be exchanged between the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, SIGNATURE, TEXTS, Bundle
from simile.errors import BundleError, InputError
from simile.files import write_whole

MAX_SIGNATURE_BYTES = 2**20
"""Far more than a signature has: a hundred bytes per file of the bundle."""
_UNSIGNED = (CARD, EVALUATION, SIGNATURE, TEXTS)
_NEED_KEY = "need an EC key on the curve P-256, P-384 or P-521, in PEM"


def sign_bundle(bundle: Bundle, key: Path, password: str | None = None) -> None:
    """Write the signature of the bundle by this private key into it, in place of an earlier one.

    Raises:
        InputError: the key cannot be used, or model-signing is not installed.
    """
    with _library():
        from model_signing.signing import Config
    with _reading(key, "private"):
        # The library passes the password on to cryptography, which takes bytes.
        signer = Config().use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
    with TemporaryDirectory() as folder:
        file = Path(folder, SIGNATURE)
        signer.set_hashing_config(_Listed(bundle)).sign(bundle.path, file)
        write_whole(bundle.path / SIGNATURE, file.read_bytes())


def require_signature(bundle: Bundle, key: str | Path | None) -> None:
    """Refuse a bundle that is not signed by the private key of this public one; without a key, require nothing.

    Raises:
        BundleError: the bundle has no signature, or it is damaged, by another key, or of other files.
        InputError: the key cannot be used, or model-signing is not installed.
    """
    if key is None:
        return
    with _library():
        from model_signing.verifying import Config
    with _reading(Path(key), "public"):
        verifier = Config().use_elliptic_key_verifier(public_key=key)
    file, listed = bundle.path / SIGNATURE, _Listed(bundle)
    need = f"need one by the private key of {key}"
    try:
        if file.stat().st_size > MAX_SIGNATURE_BYTES:
            raise BundleError(f"{file}: got more than {MAX_SIGNATURE_BYTES >> 20} MiB as a signature, {need}")
        # Of signatures that are made by older versions, the library prints a warning.
        with redirect_stdout(StringIO()):
            verifier.set_hashing_config(listed).verify(bundle.path, file)
    except FileNotFoundError as error:
        raise BundleError(f"{bundle.path}: has no signature ({SIGNATURE}), {need}") from error
    except BundleError:
        raise
    # The file can hold anything, and the bundle is signed only if nothing is raised.
    except Exception as error:
        if listed.is_compared:
            got = f"{bundle.path}: {SIGNATURE} signs other files than these, of another bundle or before a change"
            raise BundleError(f"{got}; {need}") from error
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise BundleError(f"{bundle.path}: {SIGNATURE} is by another key or damaged ({reason}), {need}") from error


class _Listed:
    """The hashes of a bundle's files, in place of model-signing's `hashing.Config`, which would read them again."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.is_compared = False
        """Whether the hashes were asked for. To verify, model-signing asks once the signature itself is valid."""

    def hash(self, model_path: Path, *, files_to_hash: object = None) -> Any:
        """Return the bundle's files with their hashes."""
        from model_signing._hashing.hashing import Digest
        from model_signing.manifest import Manifest, SerializationType

        self.is_compared = True
        # These arguments are signed too; they tell model-signing's own command which files to leave out.
        arguments = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": _UNSIGNED}
        files = SerializationType.from_args(arguments)
        members = [entry for member in self._bundle.manifest.members for entry in member.files]
        hashes = {MANIFEST: self._bundle.manifest_sha256} | {entry.path: entry.sha256 for entry in members}
        items = [
            files.new_item(str(PurePosixPath(path)), Digest("sha256", bytes.fromhex(sha256)))
            for path, sha256 in hashes.items()
        ]
        return Manifest(self._bundle.manifest.name, items, files)

    def add_ignored_paths(self, **_: object) -> None:
        """Ignore nothing: whatever a signature says about paths to ignore, the files that it states must be these."""


@contextmanager
def _library() -> Iterator[None]:
    """Say how to install model-signing where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        got = f"signatures need the package {package}, which is not installed"
        raise InputError(f"{got}: pip install 'simile-pairs[sign]'") from error


@contextmanager
def _reading(key: Path, kind: str) -> Iterator[None]:
    """Translate what a key that cannot be used makes of the library into one line, without the key's content."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{key}: cannot be read ({error.strerror}), need a {kind} key") from error
    # RSA keys have no curve; TypeError: a password is missing, or the key has none.
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{key}: got no {kind} key that Simile can use ({reason}), {_NEED_KEY}") from error
