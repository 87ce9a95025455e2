"""Reading a sealed store's pages without SQLCipher, free and half-used ones included."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PAGE = 4096
RESERVE = 80
"""SQLCipher 4 ends each page with a 16-byte initialisation vector and a 64-byte HMAC."""
SALT = 16
"""The first page begins with the salt, in the clear."""


def decrypted_pages(path: Path, key: bytes) -> bytes:
    """Every byte of every page in the main file, as it lies there, with the raw 32-byte ``key``."""
    content = path.read_bytes()
    plain = bytearray()
    for at in range(0, len(content), PAGE):
        page = content[at : at + PAGE]
        body = page[SALT if at == 0 else 0 : PAGE - RESERVE]
        decryptor = Cipher(algorithms.AES256(key), modes.CBC(page[PAGE - RESERVE : PAGE - RESERVE + 16])).decryptor()
        plain += decryptor.update(body) + decryptor.finalize()
    return bytes(plain)
