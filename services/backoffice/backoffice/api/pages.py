"""The pages: `/` is the board, `/ops` the console; their modules and styles lie in `web/`, and are served as they are.

They call the services' public APIs from the browser, with the person's token; `/web/config.json` says where those are.
"""

from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from backoffice.services import services
from backoffice.settings import Settings
from chassis.edge.routes import Routes

router = Routes(include_in_schema=False)

_FILES = StaticFiles(directory=Path(__file__).resolve().parent.parent / "web")
# A file is asked for each time, and answered with 304 where it is known: a page never runs with the modules of another
# version.
_KNOWN = {"Cache-Control": "no-cache"}


def content_security_policy(settings: Settings) -> str:
    """Nothing but our own files, and calls to the services: no inline script or style, and no other site's frame."""
    called = sorted({*settings.services.values(), settings.sandbox_url} - {""})
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' {' '.join(called)}",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


@router.get("/")
async def board(request: Request) -> Response:
    return await _file(request, "board.html")


@router.get("/ops")
async def console(request: Request) -> Response:
    return await _file(request, "ops.html")


@router.get("/web/config.json")
async def configuration(request: Request) -> Response:
    settings = services(request).settings
    return JSONResponse(
        {
            "home": settings.public_url,
            "services": {**settings.services, "backoffice-service": settings.public_url},
            "sandbox": settings.sandbox_url or None,
        }
    )


@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    return await _file(request, path)


async def _file(request: Request, path: str) -> Response:
    """Raises HTTPException: 404 where the folder has no such file."""
    answer = await _FILES.get_response(path, request.scope)
    answer.headers.update(_KNOWN | {"Content-Security-Policy": content_security_policy(services(request).settings)})
    return answer
