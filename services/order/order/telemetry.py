"""The order service's own figures."""

from chassis.telemetry import meter

orders_placed = meter.create_counter("orders_placed_total", description="Orders written")
orders_confirmed = meter.create_counter("orders_confirmed_total", description="Orders paid and confirmed")
orders_failed = meter.create_counter("orders_failed_total", description="Orders whose payment was refused")
order_value = meter.create_histogram("order_value", description="Total of a placed order, in its currency")
