"""Who may do what: a rule for every route, and whose a notification is."""

from chassis.edge.auth import Access, Rules

# A notification is its `owner`'s: whose order it tells of. Dead letters hold personal data of many. Wishes are their
# recipient's.
RULES: Rules = {
    "POST /api/v1/notifications": Access.STAFF,
    "GET /api/v1/notifications": Access.OWN,
    "GET /api/v1/notifications/{notification_id}": Access.OWN,
    "POST /api/v1/notifications/bulk": Access.ADMIN,
    "GET /api/v1/notifications/bulk": Access.ADMIN,
    "GET /api/v1/notifications/bulk/{bulk_id}": Access.ADMIN,
    "GET /api/v1/notifications/bulk/{bulk_id}/recipients": Access.ADMIN,
    "GET /api/v1/stream": Access.OWN,
    "GET /api/v1/templates": Access.STAFF,
    "POST /api/v1/templates": Access.ADMIN,
    "POST /api/v1/templates/preview": Access.ADMIN,
    "GET /api/v1/templates/{category}/{name}": Access.STAFF,
    "PUT /api/v1/templates/{category}/{name}": Access.ADMIN,
    "GET /api/v1/templates/{category}/{name}/versions": Access.STAFF,
    "POST /api/v1/templates/{category}/{name}/publish": Access.ADMIN,
    "POST /api/v1/templates/{category}/{name}/preview": Access.STAFF,
    "GET /api/v1/recipients": Access.STAFF,
    "GET /api/v1/recipients/{recipient_id}": Access.STAFF,
    "PUT /api/v1/recipients/{recipient_id}": Access.STAFF,
    "GET /api/v1/recipients/{recipient_id}/preferences": Access.OWN,
    "PUT /api/v1/recipients/{recipient_id}/preferences": Access.OWN,
    "GET /api/v1/unsubscribe": Access.SIGNED,
    "POST /api/v1/unsubscribe": Access.SIGNED,
    "POST /api/v1/receipts/{provider}": Access.SIGNED,
    "GET /api/v1/routes": Access.STAFF,
    "PUT /api/v1/routes": Access.ADMIN,
    "DELETE /api/v1/routes": Access.ADMIN,
    "DELETE /api/v1/cache": Access.ADMIN,
    "GET /api/v1/sagas/{correlation_id}": Access.OWN,
    "POST /api/v1/password-resets": Access.PUBLIC,
    "POST /api/v1/password-resets/redeem": Access.SIGNED,
    "GET /api/v1/dead-letters": Access.ADMIN,
    "POST /api/v1/dead-letters/{letter_id}/replay": Access.ADMIN,
    "POST /events/dead": Access.SIDECAR,
    "POST /events/{topic}": Access.SIDECAR,
    "POST /job/{name}": Access.SIDECAR,
}
