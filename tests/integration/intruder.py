"""An app that would have another's workflow run, as a child of its own: `{"app", "workflow", "input"}` says which."""

import os
from collections.abc import Generator
from typing import Any

import uvicorn
from dapr.ext.workflow import DaprWorkflowContext, WorkflowRuntime
from fastapi import FastAPI

app = FastAPI()


@app.get("/health/live")
@app.get("/health/ready")
async def healthy() -> dict[str, str]:
    return {"status": "ok"}


def intrude(ctx: DaprWorkflowContext, asked: dict[str, Any]) -> Generator[Any, Any, Any]:
    return (yield ctx.call_child_workflow(asked["workflow"], input=asked["input"], app_id=asked["app"]))


def main() -> None:
    runtime = WorkflowRuntime(port=os.environ["DAPR_GRPC_PORT"])
    runtime.register_workflow(intrude, name="intrude")
    runtime.start()
    try:
        uvicorn.run(app, host="127.0.0.1", port=int(os.environ["APP_PORT"]), log_level="warning")
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
