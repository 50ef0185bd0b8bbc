"""The payment service's process."""

from chassis.server import serve
from payment.app import SERVICE, create_app
from payment.settings import Settings


def main() -> None:
    settings = Settings()
    serve(create_app(settings), settings, service=SERVICE)


if __name__ == "__main__":
    main()
