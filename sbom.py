"""Completes an image's SBOM: `python sbom.py IMAGE.cdx.json` adds to a CycloneDX document what pip does not know of.

That is what the document is of, the interpreter and the Debian packages of the machine it runs on. A build runs it, in
the builder stage, beside the package cyclonedx-bom.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


def main(path: Path) -> None:
    """Rewrite the document in place.

    Raises:
        SystemExit: what came of it breaks CycloneDX' schema.
    """
    document = json.loads(path.read_text())
    (version,) = [one["version"] for one in document["components"] if one["name"] == "simile"]
    name = path.name.removesuffix(".cdx.json")
    document["metadata"]["component"] = {"type": "container", "bom-ref": name, "name": name, "version": version}
    document["components"] += [interpreter(), *debian_packages()]
    text = json.dumps(document, indent=2)
    if error := JsonStrictValidator(SchemaVersion.from_version(document["specVersion"])).validate_str(text):
        sys.exit(f"{path}: got a document that its schema refuses: {error}")
    path.write_text(text + "\n")


def interpreter() -> dict[str, str]:
    """Return this Python as a component: the base images of Docker's library build it from source."""
    return component(PackageURL("generic", None, "python", platform.python_version()))


def debian_packages() -> list[dict[str, str]]:
    """Return the installed packages as components; scanners look for a package's flaws by its release of Debian."""
    release = platform.freedesktop_os_release()
    distro = f"{release['ID']}-{release['VERSION_ID']}"
    listing = subprocess.run(
        ["dpkg-query", "--show", r"--showformat=${Package} ${Version} ${Architecture}\n"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    packages = [line.split() for line in listing.stdout.splitlines()]
    return [
        component(PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": distro}))
        for name, version, architecture in packages
    ]


def component(purl: PackageURL) -> dict[str, str]:
    """Return the package as CycloneDX writes it."""
    return {
        "type": "library",
        "bom-ref": str(purl),
        "name": purl.name,
        "version": str(purl.version),
        "purl": str(purl),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
