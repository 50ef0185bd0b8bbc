"""The process: `python -m notification.main`."""

from chassis.app import serve
from notification.app import create_app
from notification.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), settings, service="notification-service")
