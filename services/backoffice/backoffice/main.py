"""The back office's process."""

from dapr.ext.workflow import WorkflowRuntime

from backoffice.app import SERVICE, create_app
from backoffice.settings import Settings
from chassis.server import serve


def main() -> None:
    settings = Settings()
    runtime = WorkflowRuntime(port=str(settings.dapr_grpc_port))
    serve(create_app(settings, runtime=runtime), settings, service=SERVICE)


if __name__ == "__main__":
    main()
