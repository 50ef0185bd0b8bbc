"""Believed for its signature alone: the library's work, with our secrets and our manners."""

import base64
import hmac
import time
from datetime import datetime, tzinfo
from hashlib import sha256

import pytest
from standardwebhooks import webhooks as library

from chassis.webhooks import NotSigned, Signatures

NEWER = "whsec_" + base64.b64encode(b"the newer secret of the two, 24+").decode()
OLDER = "whsec_" + base64.b64encode(b"the older secret of the two, 24+").decode()
FOREIGN = "whsec_" + base64.b64encode(b"somebody else's secret, of 24+").decode()


def signed(body: bytes, *, secret: str = NEWER, ago: float = 0) -> dict[str, str]:
    """As the specification says, without the library that verifies it."""
    at = str(int(time.time() - ago))
    signature = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), f"msg_1.{at}.".encode() + body, sha256)
    told = f"v1,{base64.b64encode(signature.digest()).decode()}"
    return {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": told}


def test_the_published_vector_of_standard_webhooks_verifies(monkeypatch: pytest.MonkeyPatch):
    """The one that the specification's libraries are tested with."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return datetime.fromtimestamp(1614265330, tz)

    monkeypatch.setattr(library, "datetime", Then)
    signatures = Signatures("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    assert signatures.verify(b'{"test": 2432232314}', headers) == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    with pytest.raises(NotSigned):
        signatures.verify(b'{"test": 2432232315}', headers)


@pytest.mark.parametrize("secrets", [f"{NEWER},{OLDER}", f" {NEWER} , {OLDER} ,"])
def test_while_secrets_rotate_either_signs_and_nobody_else(secrets: str):
    signatures = Signatures(secrets)

    for secret in (NEWER, OLDER):
        assert signatures.verify(b"{}", signed(b"{}", secret=secret)) == "msg_1"
    with pytest.raises(NotSigned):
        signatures.verify(b"{}", signed(b"{}", secret=FOREIGN))


@pytest.mark.parametrize("ago", [301, -302])
def test_more_than_five_minutes_off_it_is_refused(ago: float):
    with pytest.raises(NotSigned):
        Signatures(NEWER).verify(b"{}", signed(b"{}", ago=ago))


@pytest.mark.parametrize("garbled", ["", "v1", "v1,", "v1,AAA", "v1,not base64!", "v1,a,b", "v1,ü", "v2,AAAA"])
def test_what_is_no_signature_or_no_text_is_refused(garbled: str):
    with pytest.raises(NotSigned):
        Signatures(NEWER).verify(b"{}", signed(b"{}") | {"webhook-signature": garbled})
    with pytest.raises(NotSigned):
        Signatures(NEWER).verify(b"\xff", signed(b"\xff"))


@pytest.mark.parametrize("secrets", ["", " , "])
def test_without_secrets_nothing_is_believed(secrets: str):
    with pytest.raises(NotSigned):
        Signatures(secrets).verify(b"{}", signed(b"{}"))


@pytest.mark.parametrize("secret", ["whsec_", "whsec_secre"])
def test_a_secret_that_is_none_is_refused_at_once(secret: str):
    with pytest.raises(ValueError, match=r"empty|base64"):
        Signatures(f"{NEWER},{secret}")
