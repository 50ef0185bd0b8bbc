"""Mechanisms every service shares. No business noun lives here; a test greps for them."""
