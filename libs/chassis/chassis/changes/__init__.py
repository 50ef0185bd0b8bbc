"""The change feed: what every replica must hear, in the sequence in which it happened."""
