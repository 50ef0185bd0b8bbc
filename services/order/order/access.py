"""Who may do what: a rule for every route, and what a user's own orders are."""

from chassis.edge.auth import Access, Rules

# An order is its `owner`'s: the subject of the token that placed it.
RULES: Rules = {
    "GET /api/v1/catalog": Access.GUEST,
    "GET /api/v1/catalog/featured": Access.GUEST,
    "POST /api/v1/catalog/products": Access.ADMIN,
    "PUT /api/v1/catalog/products/{sku}": Access.ADMIN,
    "DELETE /api/v1/catalog/products/{sku}": Access.ADMIN,
    "GET /api/v1/catalog/products/{sku}/stock": Access.STAFF,
    "POST /api/v1/catalog/products/{sku}/stock": Access.ADMIN,
    "POST /api/v1/orders": Access.USER,
    "GET /api/v1/orders": Access.OWN,
    "GET /api/v1/orders/stream": Access.OWN,
    "GET /api/v1/orders/{order_id}": Access.OWN,
    "GET /api/v1/orders/{order_id}/timeline": Access.OWN,
    "GET /api/v1/orders/{order_id}/events": Access.STAFF,
    "POST /api/v1/orders/{order_id}/cancel": Access.OWN,
    "POST /api/v1/orders/{order_id}/status": Access.STAFF,
    "POST /api/v1/orders/{order_id}/ship": Access.STAFF,
    "GET /api/v1/metrics/hourly": Access.STAFF,
    "GET /api/v1/metrics/now": Access.STAFF,
    "GET /api/v1/sagas": Access.STAFF,
    "GET /api/v1/sagas/{saga_id}": Access.STAFF,
    "POST /api/v1/sagas/{saga_id}/retry": Access.ADMIN,
    "POST /person-data": Access.SIDECAR,
    "POST /events/customers": Access.SIDECAR,
    # Only the back office calls, through both sidecars; for whose tenant, X-Tenant-Id says.
    "POST /export-page": Access.SIDECAR,
    "POST /events/notifications": Access.SIDECAR,
    "POST /events/settings": Access.SIDECAR,
}
