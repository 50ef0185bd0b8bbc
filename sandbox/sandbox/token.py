"""A development token for the command line: `python -m sandbox.token`. The sandbox need not run."""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from sandbox.issuer import Holder, Issuer
from sandbox.keys import KeyRing
from sandbox.settings import Settings

_EPILOG = """\
The token stands alone on standard output:

  curl -H "authorization: Bearer $(python -m sandbox.token --role staff)" http://localhost:8001/api/v1/orders

It is signed with the running sandbox's own key, which is made if it isn't there yet. SANDBOX_DATA_DIR (where the key
is), SANDBOX_ISSUER and SANDBOX_AUDIENCE are the sandbox's own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one token. Leaves with 2 when asked for something that can't be, with 1 when there is no key to be had."""
    settings = Settings()
    parser = _parser(settings)
    asked = parser.parse_args(arguments)
    holder = Holder.checked(
        role=asked.role, sub=asked.sub or f"dev-{asked.role}", tenant=asked.tenant, tenant_name=asked.tenant_name
    )
    if isinstance(holder, str):
        parser.error(holder)
    issuer = Issuer(name=settings.issuer, keys=KeyRing(settings.data_dir))
    try:
        token = issuer.token(
            subject=holder.sub,
            roles=[holder.role],
            tenant=holder.tenant,
            tenant_name=holder.tenant_name,
            audience=settings.audience,
            lifetime=asked.lifetime,
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: no usable key in {settings.data_dir}: {error}\n")
    sys.stdout.write(token + "\n")


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.token",
        description="Prints a bearer token for development.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--role", choices=("user", "staff", "admin"), default="user", help="default: user")
    parser.add_argument("--sub", help="who it speaks of: 1-255 printable ASCII characters; default: dev-<role>")
    parser.add_argument("--tenant", help="1-64 of A-Z a-z 0-9 . _ -; default: default")
    parser.add_argument("--tenant-name", help="the tenant's name for people; default: made from the tenant")
    standard = settings.dev_token_lifetime
    parser.add_argument(
        "--lifetime",
        type=_seconds,
        default=standard,
        metavar="SECONDS",
        help=f"default: {standard.total_seconds():.0f}",
    )
    return parser


def _seconds(text: str) -> timedelta:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:12]) <= 366 * 86_400):
        raise argparse.ArgumentTypeError("whole seconds, at least 1 and at most a year")
    return timedelta(seconds=int(text))


if __name__ == "__main__":
    main()
