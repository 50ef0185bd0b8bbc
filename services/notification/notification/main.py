"""The notification service's process."""

from dapr.ext.workflow import WorkflowRuntime

from chassis.server import serve
from notification.app import SERVICE, create_app
from notification.settings import Settings


def main() -> None:
    settings = Settings()
    runtime = WorkflowRuntime(port=str(settings.dapr_grpc_port))
    serve(create_app(settings, runtime=runtime), settings, service=SERVICE)


if __name__ == "__main__":
    main()
