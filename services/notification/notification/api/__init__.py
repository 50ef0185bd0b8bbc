"""HTTP in, a module for each resource."""
