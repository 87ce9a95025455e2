"""Mutual TLS towards the broker: version 1.3, both ends by certificate, host name checked."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from edge.errors import KeyUnusable
from edge.trust.secret import CREDENTIAL, read_secret

__all__ = ["client_context", "common_name", "located", "server_names"]


def located(spec: str, base: Path) -> Path:
    """Where a file or a ``credential:NAME`` of the configuration lies."""
    if spec.startswith(CREDENTIAL):
        return Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), spec.removeprefix(CREDENTIAL))
    return base / spec


def client_context(ca: str, certificate: str, key: str, base: Path = Path()) -> ssl.SSLContext:
    """TLS as a client that proves who it is.

    Args:
        ca: certificate of the authority that signed the broker's.
        certificate: this client's certificate.
        key: its private key, a file that only its owner may read or ``credential:NAME``.
        base: the folder that relative paths start from.

    Raises:
        KeyUnusable: a file is missing, damaged or readable by others, or key and certificate are no pair.
    """
    read_secret(key, base)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for spec in (ca, certificate):
        if not located(spec, base).is_file():
            raise KeyUnusable(str(base / spec), "there is no such certificate", "Enrol again with lfr-provision")
    try:
        context.load_verify_locations(located(ca, base))
    except ssl.SSLError:
        raise KeyUnusable(str(base / ca), "is not a certificate in PEM form", "Copy the site's ca.crt again") from None
    try:
        context.load_cert_chain(located(certificate, base), located(key, base))
    except (ssl.SSLError, OSError):
        raise KeyUnusable(
            str(base / certificate),
            f"does not belong to {key}, or one of the two is damaged",
            "Enrol again with lfr-provision",
        ) from None
    return context


def common_name(certificate: Path) -> str:
    """Whose certificate it is.

    Raises:
        KeyUnusable: it cannot be read, or names nobody.
    """
    try:
        subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
        return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    except (OSError, ValueError, IndexError):
        raise KeyUnusable(str(certificate), "does not say whose certificate it is", "Enrol again") from None


def server_names(certificate: Path) -> frozenset[str]:
    """Names, in lower case, and addresses that a server's certificate is for; none where it says none.

    Raises:
        KeyUnusable: it cannot be read.
    """
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    except (OSError, ValueError):
        raise KeyUnusable(str(certificate), "cannot be read", "Give the page's certificate in PEM form") from None
    hosts = names.get_values_for_type(x509.DNSName)
    return frozenset({*(name.lower() for name in hosts), *(map(str, names.get_values_for_type(x509.IPAddress)))})
