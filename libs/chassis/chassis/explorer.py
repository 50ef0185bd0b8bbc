"""`GET /docs`: a page that shows the API and calls it, from files that are installed with us: it works offline."""

import base64
import hashlib
from importlib import resources
from pathlib import Path

from fastapi import Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from chassis.edge.routes import Routes

router = Routes(include_in_schema=False)

_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
_FOLDER = Path(str(resources.files("fastapi_offline"))) / "static"
_CACHED = {"Cache-Control": "public, max-age=86400"}


def _page() -> Response:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Brewline",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
    )
    page.headers["Content-Security-Policy"] = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' 'sha256-{_hash_of_script(bytes(page.body))}'",
            "style-src 'self' 'unsafe-inline'",  # Swagger UI sets the styles of its elements
            "img-src 'self' data:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ]
    )
    return page


def _hash_of_script(page: bytes) -> str:
    """Of the one that is written into the page."""
    script = page.rpartition(b"<script>")[2].partition(b"</script>")[0]
    return base64.b64encode(hashlib.sha256(script).digest()).decode()


_PAGE = _page()


@router.get("/docs")
async def explorer() -> Response:
    return _PAGE


@router.get("/docs/{file}")
async def explorer_file(file: str) -> Response:
    if file not in _FILES:
        raise HTTPException(404, "Not Found")
    return FileResponse(_FOLDER / file, media_type=_FILES[file], headers=_CACHED)
