"""Who may do what: a rule for every route, and whose a notification is."""

from chassis.auth import Access, Rules

# A notification is its `owner`'s: whose order it tells of. Dead letters hold personal data of many.
RULES: Rules = {
    "GET /api/v1/notifications": Access.OWN,
    "GET /api/v1/notifications/{notification_id}": Access.OWN,
    "GET /api/v1/dead-letters": Access.ADMIN,
    "POST /api/v1/dead-letters/{letter_id}/replay": Access.ADMIN,
    "POST /events/orders": Access.SIDECAR,
    "POST /events/dead": Access.SIDECAR,
}
