"""From a leased row to a provider's answer."""
