"""Secrets at rest: one encrypted column, its key outside the database."""

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBroken(Exception):
    """The text was not sealed with any key we hold."""


class Sealer:
    """Seals short texts with Fernet (AES-CBC and HMAC). The first key seals, every key opens, so keys can rotate."""

    def __init__(self, keys: list[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    @classmethod
    def from_settings(cls, keys: str, key_file: Path) -> "Sealer":
        """Comma-separated keys where they are given; otherwise a development key made once and kept in `key_file`."""
        if keys:
            return cls(keys.split(","))
        key_file.parent.mkdir(parents=True, exist_ok=True)
        if not key_file.exists():
            key_file.touch(mode=0o600)
            key_file.write_bytes(Fernet.generate_key())
        return cls([key_file.read_text()])

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as broken:
            raise SealBroken from broken
