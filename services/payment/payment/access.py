"""Who may do what: a rule for every route."""

from chassis.auth import Access, Rules

# Only order calls, through both sidecars; whom it acts for its own edge has checked, and X-Tenant-Id says it.
RULES: Rules = {
    "POST /process-payment": Access.SIDECAR,
    "POST /refund-payment": Access.SIDECAR,
}
