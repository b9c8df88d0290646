"""Bundles go into an OCI registry and come out of it, by the real commands and a real registry."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tarfile
from typing import NamedTuple

import pytest

from pipeline.cli import main
from simile.artifacts import read_bundle, sign_bundle
from simile.artifacts.image import image_of
from tests.live_servers import Reply, scripted
from tests.registries import MISSING, PASSWORD, USER, is_missing, registry
from tests.tiny_ensembles import Ensemble

pytestmark = pytest.mark.skipif(is_missing(), reason=MISSING)
pytest.importorskip("oras", reason="oras is not installed (the extra oci)")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A registry without a password."""
    with registry(tmp_path_factory.mktemp("registry") / "store") as running:
        yield running


@pytest.fixture
def url(hub, request):
    """The address of a repository of this test's own."""
    return f"oci://{hub.host}/simile/{abs(hash(request.node.nodeid))}"


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def simile(capfd, tmp_path, monkeypatch):
    """Runs a command, with no credentials but those that a test sets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)

    def run(*arguments):
        done = Done(main([*map(str, arguments)]), *capfd.readouterr())
        assert "planted" not in done.out + done.err
        return done

    return run


def refused(done, code=2):
    """The one line of a refusal."""
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    return line


def name_in(url):
    return url.removeprefix("oci://").partition("/")[2]


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_signed_bundle_comes_back_with_its_signature_and_byte_for_byte(simile, url, signing_keys, tmp_path):
    bundle = Ensemble(tmp_path).write("signed")
    sign_bundle(bundle, signing_keys.private)
    pushed = simile("push", bundle.path, f"{url}:v1")
    assert (pushed.code, pushed.err) == (0, "")
    assert pushed.out.startswith(f"{url}@sha256:")
    for number, address in enumerate((f"{url}:v1", pushed.out.strip())):
        out = tmp_path / f"pulled-{number}"
        pulled = simile("pull", address, out, "--verify-key", signing_keys.public)
        assert pulled == (0, f"{bundle.identity}\n", "")
        assert files_in(out) == files_in(bundle.path)


def test_pull_with_a_key_refuses_a_bundle_without_a_signature(simile, url, bundle, signing_keys, tmp_path):
    simile("push", bundle.path, url)
    line = refused(simile("pull", url, tmp_path / "out" / "pulled", "--verify-key", signing_keys.public))
    assert line.startswith(f"simile: {url}: has no signature (model.sig)")
    assert list((tmp_path / "out").iterdir()) == []


def test_tag_moves_and_the_address_of_the_older_bundle_stays(simile, url, tmp_path):
    bundles = [Ensemble(tmp_path / str(seed)).write(seed=seed) for seed in (1, 2)]
    first, _ = [simile("push", bundle.path, f"{url}:current").out.strip() for bundle in bundles]
    assert simile("pull", f"{url}:current", tmp_path / "new").out.strip() == bundles[1].identity
    assert simile("pull", first, tmp_path / "old").out.strip() == bundles[0].identity


def test_bundle_is_the_same_image_wherever_it_is_pushed_from(simile, url, bundle, tmp_path):
    other = shutil.copytree(bundle.path, tmp_path / "elsewhere")
    for file in other.rglob("*"):
        os.utime(file, (1, 1))
    addresses = {simile("push", path, f"{url}:{path.name}").out for path in (bundle.path, other)}
    assert len(addresses) == 1


def test_signing_changes_the_small_layer_only(simile, hub, url, signing_keys, tmp_path):
    bundle = Ensemble(tmp_path).write("tiny")
    layers = []
    for sign in (False, True):
        if sign:
            sign_bundle(bundle, signing_keys.private)
        simile("push", bundle.path, url)
        layers.append([layer["digest"] for layer in hub.manifest(name_in(url), "latest")["layers"]])
    assert layers[0][0] == layers[1][0]
    assert layers[0][1] != layers[1][1]


def test_what_is_there_stays(simile, url, bundle, tmp_path):
    address = simile("push", bundle.path, url).out.strip()
    inodes = set()
    for _ in range(2):
        assert simile("pull", address, tmp_path / "pulled").code == 0
        inodes.add((tmp_path / "pulled").stat().st_ino)
    assert len(inodes) == 1


@pytest.mark.parametrize("number", [0, 1])
def test_layer_that_was_changed_in_the_registry_is_refused(simile, hub, url, bundle, tmp_path, number):
    # Its own seed, because the registry stores equal layers once.
    bundle = Ensemble(tmp_path).write(seed=10 + number)
    address = simile("push", bundle.path, url).out.strip()
    blob = hub.blob(hub.manifest(name_in(url), "latest")["layers"][number]["digest"])
    data = bytearray(blob.read_bytes())
    data[700] ^= 1
    blob.write_bytes(data)
    line = refused(simile("pull", address, tmp_path / "out" / "pulled"))
    assert line.startswith(f"simile: {url}@sha256:")
    assert "damaged" in line
    assert list((tmp_path / "out").iterdir()) == []


def test_manifest_of_another_image_under_a_digest_is_refused(simile, hub, url, tmp_path):
    first, second = (
        simile("push", Ensemble(tmp_path / s).write(seed=int(s)).path, url).out.strip() for s in ("20", "21")
    )
    blobs = [hub.blob(address.rpartition("@")[2]) for address in (first, second)]
    blobs[0].write_bytes(blobs[1].read_bytes())
    line = refused(simile("pull", first, tmp_path / "out" / "pulled"))
    assert list((tmp_path / "out").iterdir()) == []
    assert line.startswith(f"simile: {first}: ")


def upload(hub, name, layers, **annotations):
    """Upload an image of these layers, by hand."""
    import hashlib

    import httpx2

    def put(data):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = httpx2.post(f"http://{hub.host}/v2/{name}/blobs/uploads/", trust_env=False)
        place = f"{begun.headers['location']}&digest={digest}"
        httpx2.put(place, content=data, trust_env=False).raise_for_status()
        return {"digest": digest, "size": len(data)}

    kind = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}manifest.v1+json",
        "config": {"mediaType": f"{kind}config.v1+json", **put(b"{}")},
        "layers": [{"mediaType": f"{kind}layer.v1.tar", **put(layer)} for layer in layers],
        "annotations": annotations,
    }
    address = f"http://{hub.host}/v2/{name}/manifests/latest"
    headers = {"content-type": manifest["mediaType"]}
    httpx2.put(address, content=json.dumps(manifest), headers=headers, trust_env=False).raise_for_status()


def archive(tmp_path, *entries):
    """Return a tar archive of these entries, each with ten bytes where it is a file."""
    with tarfile.open(tmp_path / "layer.tar", "w") as made:
        for entry in entries:
            if entry.isreg():
                entry.size = 10
                (tmp_path / "ten").write_bytes(b"0123456789")
                with (tmp_path / "ten").open("rb") as content:
                    made.addfile(entry, content)
            else:
                made.addfile(entry)
    return (tmp_path / "layer.tar").read_bytes()


def entry(name, kind=tarfile.REGTYPE, **fields):
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


HOSTILE = {
    "leaves": entry("models/../../planned"),
    "absolute": entry("/etc/planned"),
    "elsewhere": entry("etc/planned"),
    "link": entry("models/manifest.json", tarfile.SYMTYPE, linkname="/etc/hostname"),
    "hard link": entry("models/manifest.json", tarfile.LNKTYPE, linkname="/etc/hostname"),
    "device": entry("models/manifest.json", tarfile.CHRTYPE),
    "hidden": entry("models/.wh.manifest.json"),
    "sparse": entry("models/manifest.json", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**50)}),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_layer_with_anything_but_plain_files_is_refused(simile, hub, url, tmp_path, how):
    upload(hub, name_in(url), [archive(tmp_path, HOSTILE[how])], **{"simile.digest": "0" * 64})
    line = refused(simile("pull", url, tmp_path / "out" / "pulled"))
    assert "need plain files in models/ only" in line
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "planned").exists()


def test_file_in_two_layers_is_refused(simile, hub, url, tmp_path):
    layer = archive(tmp_path, entry("models/manifest.json"))
    upload(hub, name_in(url), [layer, layer], **{"simile.digest": "0" * 64})
    assert "'models/manifest.json' twice" in refused(simile("pull", url, tmp_path / "pulled"))


def test_image_without_a_bundle_is_refused(simile, hub, url, tmp_path):
    upload(hub, name_in(url), [archive(tmp_path, entry("models/x"))])
    line = refused(simile("pull", url, tmp_path / "pulled"))
    assert line.endswith("need an image that simile push has written")


def test_bundle_of_another_digest_than_the_image_states_is_refused(simile, hub, url, bundle, tmp_path):
    simile("push", bundle.path, f"{url}-source")
    layers = [
        hub.blob(layer["digest"]).read_bytes() for layer in hub.manifest(f"{name_in(url)}-source", "latest")["layers"]
    ]
    upload(hub, name_in(url), layers, **{"simile.digest": "0" * 64})
    assert "got a bundle with the digest" in refused(simile("pull", url, tmp_path / "out" / "pulled"))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_not_there_is_told(simile, url, tmp_path):
    line = refused(simile("pull", f"{url}:none", tmp_path / "pulled"))
    assert line == f"simile: {url}:none: no such bundle or registry (404 MANIFEST_UNKNOWN)"
    assert "no such bundle" in refused(simile("push", tmp_path / "none", url))


@pytest.mark.parametrize(
    "address",
    [
        "oci://planted:planted@host.example/simile",
        "oci://host/simile",
        "oci://host.example/UPPER",
        "oci://h.example/a:",
    ],
)
def test_address_of_no_registry_is_refused_without_being_shown(simile, bundle, tmp_path, address):
    for arguments in (("push", bundle.path, address), ("pull", address, tmp_path / "pulled")):
        assert "got no registry address, need oci://REGISTRY/NAME:TAG" in refused(simile(*arguments))


def test_digest_cannot_be_pushed_to(simile, bundle, url):
    assert "got a digest, need oci://REGISTRY/NAME:TAG" in refused(
        simile("push", bundle.path, f"{url}@sha256:{'0' * 64}")
    )


def test_registry_that_is_away_can_be_tried_again(simile, bundle, tmp_path):
    away = "oci://127.0.0.1:9/simile"
    for arguments in (("push", bundle.path, away), ("pull", away, tmp_path / "pulled")):
        line = refused(simile(*arguments), 75)
        assert line == f"simile: {away}: cannot be reached now (ConnectionError); run the command again to continue"


def test_tag_stays_where_it_was_if_a_push_does_not_end(simile, hub, url, tmp_path):
    old, new = (Ensemble(tmp_path / str(seed)).write(seed=seed) for seed in (30, 31))
    simile("push", old.path, url)
    # The registry cannot store the last layer, because something is in its way.
    blocked = hub.blob(f"sha256:{image_of(new).layers[-1].sha256}").parent
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("in the way")
    line = refused(simile("push", new.path, url), 75)
    assert line.startswith(f"simile: {url}: cannot be used now (500")
    assert simile("pull", url, tmp_path / "before").out.strip() == old.identity
    blocked.unlink()
    assert simile("push", new.path, url).code == 0
    assert simile("pull", url, tmp_path / "after").out.strip() == new.identity


def test_credentials_come_from_dockers_config_file(simile, bundle, tmp_path, monkeypatch):
    with registry(tmp_path / "store", with_password=True) as locked:
        url = f"oci://{locked.host}/simile"
        for arguments in (("push", bundle.path, url), ("pull", url, tmp_path / "pulled")):
            line = refused(simile(*arguments))
            assert line.endswith(f"need credentials that may do this: docker login {locked.host}")
        for folder, variable in ((tmp_path / ".docker", None), (tmp_path / "own", "DOCKER_CONFIG")):
            folder.mkdir()
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            (folder / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": token}}}))
            if variable:
                shutil.rmtree(tmp_path / ".docker")
                monkeypatch.setenv(variable, str(folder))
            assert simile("push", bundle.path, url).code == 0
            assert simile("pull", url, tmp_path / f"pulled-{folder.name}").code == 0
        (tmp_path / "own" / "config.json").write_text("{planted")
        assert "Docker's config.json cannot be read" in refused(simile("push", bundle.path, url))


def test_credentials_are_exchanged_for_a_token_which_only_the_registry_gets(simile, tmp_path):
    def reply(request):
        if request.path.startswith("/token?"):
            is_known = request.headers.get("authorization") == f"Basic {token}"
            return Reply(200, {"token": "planted-token"}) if is_known else Reply(401)
        if request.headers.get("authorization") == "Bearer planted-token":
            return Reply(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "planted"}]})
        challenge = f'Bearer realm="{server.url}/token",service="registry",scope="repository:simile:pull"'
        return Reply(401, {}, {"www-authenticate": challenge})

    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with scripted(reply) as server:
        host = server.url.removeprefix("http://")
        line = refused(simile("pull", f"oci://{host}/simile", tmp_path / "pulled"))
        assert "access denied (401)" in line
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": token}}}))
        line = refused(simile("pull", f"oci://{host}/simile", tmp_path / "pulled"))
    assert line.endswith("no such bundle or registry (404 MANIFEST_UNKNOWN)")


@pytest.mark.parametrize(("status", "code"), [(500, 75), (503, 75), (429, 75), (0, 75), (400, 2), (403, 2), (418, 2)])
def test_answer_of_the_registry_ends_the_command_as_it_should(simile, tmp_path, status, code):
    with scripted(lambda _: Reply(status, b"planted")) as server:
        address = f"oci://{server.url.removeprefix('http://')}/simile"
        assert refused(simile("pull", address, tmp_path / "pulled"), code).startswith(f"simile: {address}: ")
    assert list(tmp_path.iterdir()) == []


def test_missing_library_is_told_with_what_installs_it(simile, bundle, url, monkeypatch):
    monkeypatch.delitem(sys.modules, "simile.artifacts.registry", raising=False)
    monkeypatch.setitem(sys.modules, "oras.auth", None)
    line = refused(simile("push", bundle.path, url))
    assert line.endswith("needs the package oras, which is not installed: pip install 'simile-pairs[oci]'")


@pytest.mark.skipif(shutil.which("buildah") is None or os.getuid() != 0, reason="needs buildah and root")
def test_image_is_one_that_a_container_engine_mounts(simile, hub, url, bundle, tmp_path):
    simile("push", bundle.path, f"{url}:v1")
    environ = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", "HOME": str(tmp_path)}
    storage = ["--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run")]

    def buildah(*arguments):
        command = ["buildah", *storage, *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()

    container = buildah("from", "--tls-verify=false", f"{url.removeprefix('oci://')}:v1")
    mounted = buildah("mount", container)
    assert read_bundle(os.path.join(mounted, "models")).identity == bundle.identity
    buildah("rm", container)
