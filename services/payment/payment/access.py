"""Who may do what: a rule for every route."""

from chassis.edge.auth import Access, Rules

RULES: Rules = {
    # Only order calls, through both sidecars; whom it acts for its own edge has checked, and X-Tenant-Id says it.
    "POST /process-payment": Access.SIDECAR,
    "POST /refund-payment": Access.SIDECAR,
    # Only the back office calls.
    "POST /export-page": Access.SIDECAR,
    "GET /api/v1/payments": Access.STAFF,
    "GET /api/v1/payments/unsettled": Access.STAFF,
    "GET /api/v1/payments/{payment_id}": Access.STAFF,
    "GET /api/v1/payments/{payment_id}/refunds": Access.STAFF,
    "GET /api/v1/payments/{payment_id}/moves": Access.STAFF,
    # Money leaves, or a person's word stands for a provider's.
    "POST /api/v1/payments/{payment_id}/refunds": Access.ADMIN,
    "POST /api/v1/payments/{payment_id}/settle": Access.ADMIN,
    "POST /api/v1/refunds/{refund_id}/settle": Access.ADMIN,
    "GET /api/v1/settlements/{day}": Access.ADMIN,
    "POST /api/v1/webhooks/{provider}": Access.SIGNED,
    "POST /events/settings": Access.SIDECAR,
}
