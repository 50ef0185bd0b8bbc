"""Settings and feature flags: asked of memory, on every replica the same within moments of a change, and known from the
service's own table while the back office, which has them, is away."""
