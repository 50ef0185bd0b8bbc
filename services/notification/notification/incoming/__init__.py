"""Events in: which is told to whom is data (the routing table); each is taken once."""
