"""The keys that tokens are signed with: numbered files, which every process on this machine shares."""

import base64
import contextlib
import hashlib
import json
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# The one that signs and the one before it, whose tokens live on.
_KEPT = 2
_FILE = re.compile(r"issuer-(\d+)\.pem")


class SigningKey(NamedTuple):
    """An RSA key and its name: the thumbprint of RFC 7638."""

    kid: str
    private: rsa.RSAPrivateKey

    def jwk(self) -> dict[str, str]:
        """What others verify with, as RFC 7517 writes it; nothing of the private half."""
        return {**_public_members(self.private), "kid": self.kid, "use": "sig", "alg": "RS256"}


class KeyRing:
    """The newest keys in `folder`. They are read anew each time, so that no process signs with a former key.

    A key's file appears whole under its number or not at all, and is never written again: processes that make a key
    at the same moment all end with the one that came first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def published(self) -> list[SigningKey]:
        """The key that signs, then the former one, if any. Made on first use; raises OSError."""
        while True:
            numbers = self._numbers()
            if not numbers:
                self._offer(1)
                continue
            # Gone again when others have rotated twice since the folder was read.
            with contextlib.suppress(FileNotFoundError):
                return [_load(self._path(number).read_bytes()) for number in numbers[:_KEPT]]

    def rotate(self) -> SigningKey:
        """The new signing key; callers at the same moment may share one."""
        newest = max(self._numbers(), default=0)
        self._offer(newest + 1)
        for number in self._numbers()[_KEPT:]:
            self._path(number).unlink(missing_ok=True)
        return self.published()[0]

    def _offer(self, number: int) -> None:
        """Puts a new key in place, unless somebody was faster."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # A temporary file is its owner's alone (0600), and stays so under its second name.
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".issuer-") as whole:
            whole.write(_new_key())
            whole.flush()
            os.fsync(whole.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(whole.name, self._path(number))

    def _numbers(self) -> list[int]:
        """Newest first."""
        found = (_FILE.fullmatch(path.name) for path in self._folder.glob("issuer-*.pem"))
        return sorted((int(name[1]) for name in found if name), reverse=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"issuer-{number}.pem"


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# Checking a key takes far longer than reading its file.
@lru_cache(maxsize=_KEPT)
def _load(pem: bytes) -> SigningKey:
    private = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004  # as for any other content that is no key
    members = json.dumps(_public_members(private), sort_keys=True, separators=(",", ":"))
    return SigningKey(_encoded(hashlib.sha256(members.encode()).digest()), private)


def _public_members(private: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
