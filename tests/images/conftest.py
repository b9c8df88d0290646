"""Both images, built by buildah on a base root that debootstrap makes from this machine's own Debian mirror.

Nothing is pulled from a registry. How pip reaches its index here (configuration, certificates, local wheels) is read
from this machine and mounted into the build, so that neither the repository nor the Dockerfiles need it.

The environment variable SIMILE_TEST_IMAGES may name a folder that keeps the images: they are then built again only if
their files have changed.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

REPOSITORY = Path(__file__).parents[2]
BASE_CACHE = Path("/var/cache/simile-test-base")
BASE_IMAGE = "localhost/simile-test-base"
SUITE = "bookworm"
FIGURES = pytest.StashKey[list[str]]()
PACKAGES = ("ca-certificates", "python3", "python3-venv")
COMMIT = "0123456789" * 4

# Does what a kubelet does for `readOnlyRootFilesystem: true`, `drop: ALL` and no new privileges: only /tmp and the
# image's volumes are writable. Each step execs the next, so the command is process 1 of its own namespace.
ENTER = """
set -eu
root=$1 user=$2 work=$3 volumes=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for volume in $volumes; do
    target=$root${volume#*:}
    mkdir -p "$target"
    case $volume in
        empty:*) mount -t tmpfs -o mode=1777 tmpfs "$target" ;;
        *) mount --bind "${volume%%:*}" "$target" ;;
    esac
done
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all env --chdir="$work" -i "$@"
"""


@dataclass(frozen=True)
class Image:
    """A built image with its root file system mounted, which runs commands as a kubelet would."""

    tag: str
    root: Path
    config: Mapping[str, Any]
    """The OCI image configuration."""
    size: str
    """Size of all unpacked layers including the base's, as `docker images` shows it: "584 MB"."""

    def argv(
        self, command: Sequence[str], *, mounts: Mapping[Path, str] | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the argv that runs the command in a new container; /tmp and volumes without a mount are empty."""
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in (env or {}).items())]
        sources = dict.fromkeys(("/tmp", *self.config.get("Volumes", ())), "empty")
        sources |= {target: str(source) for source, target in (mounts or {}).items()}
        volumes = " ".join(f"{source}:{target}" for target, source in sources.items())
        place = [str(self.root), self.config["User"], self.config.get("WorkingDir") or "/", volumes]
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]
        return [*enter, *place, *variables, *command]

    def run(
        self, *command: str, mounts: Mapping[Path, str] | None = None, timeout_s: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        argv = self.argv(command, mounts=mounts)
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

    def python(self, code: str, *arguments: str) -> str:
        """Return what the code prints under the image's Python."""
        return checked(self.run("python", "-c", code, *arguments)).strip()


@dataclass(frozen=True)
class Buildah:
    """The buildah command with a storage of its own."""

    home: Path
    options: list[str] = field(default_factory=list)
    """Options of `build`: mounts that let pip reach its index."""

    @property
    def storage(self) -> list[str]:
        """Options that name the storage, which podman has too."""
        return ["--root", f"{self.home}/storage", "--runroot", f"{self.home}/run"]

    def __call__(self, *arguments: str, timeout_s: float = 1800) -> str:
        """Return the command's output."""
        env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.home)}
        done = subprocess.run(
            ["buildah", *self.storage, *arguments],
            capture_output=True,
            text=True,
            env=env,
            timeout=timeout_s,
            check=False,
        )
        return checked(done)

    def build(self, dockerfile: str, **build_args: str) -> Image:
        """Build the Dockerfile from the working tree, unless the storage has that image already; return the image."""
        build_args = {"BASE": BASE_IMAGE, "COMMIT": COMMIT, **build_args}
        arguments = [f"--build-arg={name}={value}" for name, value in build_args.items()]
        tag = f"localhost/{dockerfile.lower()}:{digest_of(dockerfile)[:12]}"
        if not self.has(tag):
            file = str(REPOSITORY / dockerfile)
            self("build", "--pull-never", *self.options, *arguments, "--file", file, "--tag", tag, str(REPOSITORY))
        container = self("from", "--pull-never", tag).strip()
        config = json.loads(self("inspect", "--type", "image", tag))["OCIv1"]["config"]
        return Image(tag, Path(self("mount", container).strip()), config, self.size(tag))

    def has(self, tag: str) -> bool:
        """Return whether the storage has the image."""
        return bool(self("images", "--quiet", "--filter", f"reference={tag}").strip())

    def size(self, tag: str) -> str:
        """Return the size of the image's layers including its base's."""
        # An image is listed once for each of its tags.
        return self("images", "--format", "{{.Size}}", tag).splitlines()[0]


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """Return the command's standard output, or fail with the end of its output."""
    if done.returncode:
        pytest.fail(f"{done.args[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def digest_of(dockerfile: str) -> str:
    """Return the digest of the Dockerfile and of the build context's files."""
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    context = [dockerfile, *(line[1:] for line in ignore if line.startswith("!"))]
    listing = run(["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard", *context])
    digest = hashlib.sha256()
    for name in sorted(listing.split("\n")[:-1]):
        digest.update(f"{name}\0".encode() + (REPOSITORY / name).read_bytes())
    return digest.hexdigest()


def why_not() -> str | None:
    """Return the reason why images cannot be built here, or None."""
    absent = [name for name in ("buildah", "debootstrap", "apt-get", "unshare", "setpriv") if not shutil.which(name)]
    if absent:
        return f"no {', '.join(absent)} here (apt-get install buildah debootstrap)"
    return "needs root, for debootstrap and chroot" if os.geteuid() else None


def debian_mirror() -> list[str]:
    """Return the mirror that apt uses for the suite; an empty list before the first `apt-get update`."""
    query = ["Created-By: Packages", f"Codename: {SUITE}", "Component: main"]
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *query], capture_output=True, text=True, check=False
    )
    return done.stdout.split()[:1]


def base_archive() -> Path:
    """Return the tar file of a root file system with Python, made once per machine."""
    archive = BASE_CACHE / f"{SUITE}-{'-'.join(PACKAGES)}.tar"
    if archive.exists():
        return archive
    BASE_CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BASE_CACHE) as folder:
        root, new = f"{folder}/root", f"{folder}/base.tar"
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        run(["debootstrap", *options, SUITE, root, *debian_mirror()])
        leave_out = [f"--exclude=./{name}/*" for name in ("dev", "proc", "sys", "var/cache/apt", "var/lib/apt/lists")]
        run(["tar", "--create", f"--file={new}", f"--directory={root}", *leave_out, "."])
        os.replace(new, archive)
    return archive


def pip_mounts(folder: Path) -> list[str]:
    """Return buildah's options that give the build this machine's access to a package index.

    A pip.conf with the settings in force is mounted, and the certificates and local folders that it names.
    """
    settings = pip_settings()
    words = {path for value in settings.values() for word in value.split() if (path := local_path(word))}
    config = folder / "pip.conf"
    config.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return [f"--volume={config}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in sorted(words))]


def pip_settings() -> dict[str, str]:
    """Return the settings that decide where packages come from; the environment wins, as in pip."""
    names = ("index-url", "extra-index-url", "find-links", "cert", "trusted-host", "timeout", "default-timeout")
    listing = run([sys.executable, "-m", "pip", "config", "list"])
    lines = [line.partition("=") for line in listing.splitlines()]
    lines.sort(key=lambda item: item[0].startswith(":env:"))
    settings = {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, _, value in lines}
    return {name: " ".join(value.split()) for name, value in settings.items() if name in names}


def local_path(word: str) -> Path | None:
    """Return the path to mount for a setting's word: a file, a folder of wheels, or a local index with its files."""
    if word.startswith("file:"):
        path = Path(urlsplit(word).path)
        return path.parent if path.parent.is_dir() else None
    return Path(word) if word.startswith("/") and Path(word).exists() else None


def run(argv: Sequence[str]) -> str:
    """Run the command; return its output."""
    return checked(subprocess.run(argv, capture_output=True, text=True, check=False))


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    """The buildah command with the base image in its storage; skips with the reason where that is not possible."""
    if reason := why_not():
        pytest.skip(reason)
    kept = os.environ.get("SIMILE_TEST_IMAGES")
    home = Path(kept or tempfile.mkdtemp(prefix="simile-images-"))
    home.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(home, pip_mounts(home))
    try:
        if not buildah.has(BASE_IMAGE):
            base = buildah("from", "scratch").strip()
            buildah("add", base, str(base_archive()), "/")
            buildah("commit", "--rm", base, BASE_IMAGE)
        yield buildah
    finally:
        buildah("rm", "--all")
        if not kept:
            # The storage mounts itself where its file systems are overlays.
            subprocess.run(["umount", "--recursive", "--quiet", f"{home}/storage/overlay"], check=False)
            # A mount that was left behind would otherwise be emptied with the storage.
            subprocess.run(["rm", "-rf", "--one-file-system", str(home)], check=False)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines to print after all tests."""
    return pytestconfig.stash.setdefault(FIGURES, [])


@pytest.fixture(scope="session")
def serve_image(buildah: Buildah, figures: list[str]) -> Image:
    return built(buildah, figures, "Dockerfile.serve")


@pytest.fixture(scope="session")
def train_image(buildah: Buildah, figures: list[str]) -> Image:
    # The torch version of this environment, so that a machine with torch for CPUs does not download CUDA.
    return built(buildah, figures, "Dockerfile.train", TORCH=f"torch=={version('torch')}")


def built(buildah: Buildah, figures: list[str], dockerfile: str, **build_args: str) -> Image:
    start = time.monotonic()
    image = buildah.build(dockerfile, **build_args)
    seconds = time.monotonic() - start
    base = buildah.size(BASE_IMAGE)
    figures.append(f"{dockerfile}: {image.size}, {base} of them the base's, built in {seconds:.0f} s")
    return image


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("images")
        terminalreporter.write_line("\n".join(figures))
