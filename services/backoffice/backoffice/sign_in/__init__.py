"""Signing in by the browser: an OpenID Connect client, whose session is a sealed cookie."""
