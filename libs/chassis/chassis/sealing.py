"""Secrets at rest: one encrypted column, its key outside the database."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBroken(Exception):
    """The text was not sealed with any key we hold."""


class Sealer:
    """Seals short texts with Fernet (AES-CBC and HMAC), once `unlock` has brought the keys."""

    def __init__(self) -> None:
        self._fernet: MultiFernet | None = None

    def unlock(self, keys: str) -> None:
        """Comma-separated keys, newest first: the first seals, every one opens, so that keys can rotate."""
        self._fernet = MultiFernet([Fernet(key) for key in keys.split(",")])

    def seal(self, text: str) -> str:
        return self._unlocked().encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        try:
            return self._unlocked().decrypt(sealed).decode()
        except InvalidToken as broken:
            raise SealBroken from broken

    def _unlocked(self) -> MultiFernet:
        if self._fernet is None:
            raise RuntimeError("no key yet: `unlock` comes first")
        return self._fernet
