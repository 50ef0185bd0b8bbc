"""HTTP in, by resource."""
