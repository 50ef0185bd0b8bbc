"""Who may do what: a rule for every route."""

from chassis.edge.auth import Access, Rules

RULES: Rules = {
    "GET /api/v1/clients": Access.STAFF,
    "GET /api/v1/clients/{client_id}": Access.STAFF,
    "GET /api/v1/portfolios": Access.STAFF,
    "GET /api/v1/portfolios/{portfolio_id}": Access.STAFF,
    "GET /api/v1/securities": Access.STAFF,
    "GET /api/v1/securities/{security_id}": Access.STAFF,
    "GET /api/v1/transactions": Access.STAFF,
    "GET /api/v1/transactions/{transaction_id}": Access.STAFF,
    "GET /api/v1/sync/logs": Access.STAFF,
    "GET /api/v1/sync/logs/{log_id}": Access.STAFF,
    "POST /api/v1/sync/{entity}": Access.ADMIN,
    # What could not be taken is shown as it came, with whatever is personal in it.
    "GET /api/v1/sync/quarantine": Access.ADMIN,
    "POST /api/v1/sync/quarantine/{item_id}/replay": Access.ADMIN,
    "DELETE /api/v1/sync/quarantine/{item_id}": Access.ADMIN,
    "POST /person-data": Access.SIDECAR,
    "POST /events/customers": Access.SIDECAR,
    "POST /events/settings": Access.SIDECAR,
}
