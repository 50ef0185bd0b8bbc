"""The push provider's webhook."""
