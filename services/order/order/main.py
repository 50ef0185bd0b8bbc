"""The order service's process."""

from dapr.ext.workflow import WorkflowRuntime

from chassis.server import serve
from order.app import SERVICE, create_app
from order.settings import Settings
from order.telemetry import SPELT


def main() -> None:
    settings = Settings()
    runtime = WorkflowRuntime(port=str(settings.dapr_grpc_port))
    serve(create_app(settings, runtime=runtime), settings, service=SERVICE, spelt=SPELT)


if __name__ == "__main__":
    main()
