"""Who may do what: a rule for every route."""

from chassis.edge.auth import Access, Rules

# A job is its user's, whoever asked for it, and an upload its uploader's; either is an admin's of the tenant too
# (api/jobs.py, api/files.py). Whoever has the link to an export may have its file. Of settings that concern all
# tenants, api/settings.py asks for the operator's admin.
RULES: Rules = {
    "GET /": Access.PUBLIC,
    "GET /ops": Access.PUBLIC,
    "GET /web/config.json": Access.PUBLIC,
    "GET /web/{path:path}": Access.PUBLIC,
    "GET /auth/sign-in": Access.PUBLIC,
    "GET /auth/callback": Access.PUBLIC,
    "POST /auth/token": Access.PUBLIC,
    "POST /auth/sign-out": Access.PUBLIC,
    "POST /api/v1/files": Access.USER,
    "GET /api/v1/files": Access.USER,
    "GET /api/v1/files/{category}/{name}": Access.USER,
    "DELETE /api/v1/files/{category}/{name}": Access.USER,
    "GET /api/v1/traces/map": Access.STAFF,
    "GET /api/v1/traces/{trace_id}": Access.STAFF,
    "POST /person-data": Access.SIDECAR,
    "POST /events/customers": Access.SIDECAR,
    "GET /api/v1/settings": Access.ADMIN,
    "GET /api/v1/settings/{key}": Access.ADMIN,
    "PUT /api/v1/settings/{key}": Access.ADMIN,
    "DELETE /api/v1/settings/{key}": Access.ADMIN,
    "GET /api/v1/settings/{key}/history": Access.ADMIN,
    "GET /api/v1/features/{name}": Access.USER,
    "POST /settings-snapshot": Access.SIDECAR,
    "POST /api/v1/exports": Access.ADMIN,
    "GET /api/v1/exports/{job_id}/file": Access.SIGNED,
    "GET /api/v1/jobs": Access.USER,
    "GET /api/v1/jobs/{job_id}": Access.USER,
    "DELETE /api/v1/jobs/{job_id}": Access.USER,
}
