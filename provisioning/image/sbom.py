"""What is in an image, as a CycloneDX 1.5 bill of materials: Debian packages, wheels, models, and LFR Edge itself."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from provisioning.image.debian import Installed
from provisioning.image.lock import Pin
from provisioning.image.tools import ImageUnusable

__all__ = ["bill", "names", "read", "wheels_in"]

_NAMESPACE = uuid.UUID("5a3c0d1e-1f2e-4ed6-8a11-0000000000dd")


def wheels_in(site: Path) -> dict[str, str]:
    """Name and version of every distribution under a folder of installed packages."""
    found = {}
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        text = metadata.read_text(encoding="utf-8", errors="replace")
        name = re.search(r"(?m)^Name: (.+)$", text)
        version = re.search(r"(?m)^Version: (.+)$", text)
        if name and version:
            found[_plain(name[1])] = version[1].strip()
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _debian(package: Installed) -> dict[str, Any]:
    version = package.version.replace("+", "%2B")
    url = f"pkg:deb/debian/{package.name}@{version}?arch={package.architecture}&distro=bookworm"
    return {"type": "library", "bom-ref": url, "name": package.name, "version": package.version, "purl": url}


def _wheel(name: str, version: str, pins: Mapping[str, Pin]) -> dict[str, Any]:
    url = f"pkg:pypi/{name}@{version}"
    component: dict[str, Any] = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
    pin = pins.get(name)
    if pin is None or pin.version != version:
        raise ImageUnusable(f"wheel {name} {version}", "is in the image and in no lock", "Write a new lock: image lock")
    component["hashes"] = [{"alg": "SHA-256", "content": pin.sha256}]
    return component


def bill(
    *,
    version: str,
    commit: str,
    packages: Iterable[Installed],
    site: Path,
    pins: Iterable[Pin],
    models: Mapping[str, str],
) -> str:
    """The bill of materials as JSON text; always the same for the same image.

    Args:
        version: of the image.
        commit: of the sources.
        packages: Debian packages in the root, and those unpacked on the side.
        site: folder of installed Python packages inside the root.
        pins: every locked wheel and source, for their hashes.
        models: model file → SHA-256.

    Raises:
        ImageUnusable: a wheel in the image is in no lock.
    """
    by_name = {_plain(pin.name): pin for pin in pins}
    components = [_debian(package) for package in sorted(packages, key=lambda p: p.name)]
    components += [_wheel(name, found, by_name) for name, found in wheels_in(site).items()]
    for name, digest in sorted(models.items()):
        components.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, version + commit)}",
        "version": 1,
        "metadata": {
            "component": {"type": "operating-system", "bom-ref": "lfr-edge", "name": "lfr-edge", "version": version},
            "properties": [{"name": "lfr:commit", "value": commit}],
        },
        "components": components,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def read(path: Path) -> dict[str, Any]:
    """Read a bill of materials.

    Raises:
        ImageUnusable: it cannot be read, or is none.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ImageUnusable(str(path), f"cannot be read ({error})", "Build the image again") from error
    if document.get("bomFormat") != "CycloneDX" or not isinstance(document.get("components"), list):
        raise ImageUnusable(str(path), "is not a CycloneDX bill of materials", "Build the image again")
    return document


def names(document: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Name → version of the components whose package URL is of ``kind``: ``deb`` or ``pypi``."""
    return {
        c["name"]: c["version"] for c in document["components"] if str(c.get("purl", "")).startswith(f"pkg:{kind}/")
    }
