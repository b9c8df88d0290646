"""Completes an image's SBOM: `python sbom.py IMAGE.cdx.json` adds what pip does not know to a CycloneDX document.

It adds the image itself, the Python interpreter and the Debian packages. The image's build runs it in the builder
stage, where cyclonedx-bom is installed.
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
        SystemExit: the result is not valid by CycloneDX' schema.
    """
    document = json.loads(path.read_text())
    (version,) = [one["version"] for one in document["components"] if one["name"] == "simile-pairs"]
    name = path.name.removesuffix(".cdx.json")
    document["metadata"]["component"] = {"type": "container", "bom-ref": name, "name": name, "version": version}
    document["components"] += [interpreter(), *debian_packages()]
    text = json.dumps(document, indent=2)
    if error := JsonStrictValidator(SchemaVersion.from_version(document["specVersion"])).validate_str(text):
        sys.exit(f"{path}: the completed SBOM is not valid by its schema: {error}")
    path.write_text(text + "\n")


def interpreter() -> dict[str, str]:
    """Return the Python interpreter as a component; Docker's official images build it from source."""
    return component(PackageURL("generic", None, "python", platform.python_version()))


def debian_packages() -> list[dict[str, str]]:
    """Return the Debian packages as components, with the release that scanners need to look up vulnerabilities."""
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
    """Return the CycloneDX component of this package."""
    return {"type": "library", "bom-ref": str(purl), "name": purl.name, "version": str(purl.version), "purl": str(purl)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
