"""The change feed: what every replica must hear, in the order in which it happened."""
