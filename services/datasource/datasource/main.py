"""The data source's process."""

from chassis.server import serve
from datasource.app import SERVICE, create_app
from datasource.settings import Settings


def main() -> None:
    settings = Settings()
    serve(create_app(settings), settings, service=SERVICE)


if __name__ == "__main__":
    main()
