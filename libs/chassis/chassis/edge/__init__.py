"""What stands before every route: who calls, what they may do, how often, and the log of it."""
