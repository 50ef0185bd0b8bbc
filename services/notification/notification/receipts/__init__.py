"""What providers tell of a message after they took it, and asking for what they didn't."""
