"""Who may do what: a rule for every route, and what a user's own orders are."""

from chassis.edge.auth import Access, Rules

# An order is its `owner`'s: the subject of the token that placed it.
RULES: Rules = {
    "GET /api/v1/catalog": Access.PUBLIC,
    "POST /api/v1/orders": Access.USER,
    "GET /api/v1/orders": Access.OWN,
    "GET /api/v1/orders/{order_id}": Access.OWN,
    "GET /api/v1/orders/{order_id}/timeline": Access.OWN,
    "POST /api/v1/orders/{order_id}/cancel": Access.OWN,
    "POST /api/v1/orders/{order_id}/status": Access.STAFF,
    "POST /api/v1/orders/{order_id}/ship": Access.STAFF,
    "POST /events/notifications": Access.SIDECAR,
}
