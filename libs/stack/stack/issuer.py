"""A token issuer for tests in one process: its key set is a file, as `AUTH_JWKS_FILE` wants it."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import jwt.algorithms
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE, ISSUER = "brewline", "http://localhost:8009"


class Issuer:
    def __init__(self, folder: Path, *, kid: str = "test-1") -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.jwks_file = folder / "jwks.json"
        self.jwks_file.write_text(json.dumps(self.jwks))

    @property
    def jwks(self) -> dict[str, Any]:
        public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [public | {"kid": self.kid, "alg": "RS256", "use": "sig"}]}

    def token(self, *roles: str, sub: str = "u-1", tenant: str = "default", **claims: Any) -> str:
        """A token as the issuer would make it; `claims` replace or add, None leaves one out."""
        known: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "exp": int(time.time()) + 600,
            "tenant": tenant,
            "tenant_name": tenant.title(),
            "roles": list(roles or ("user",)),
        }
        given = {name: value for name, value in (known | claims).items() if value is not None}
        return jwt.encode(given, self.key, algorithm="RS256", headers={"kid": self.kid})

    def bearer(self, *roles: str, sub: str = "u-1", tenant: str = "default", **claims: Any) -> dict[str, str]:
        """The header of a request."""
        return {"Authorization": f"Bearer {self.token(*roles, sub=sub, tenant=tenant, **claims)}"}
