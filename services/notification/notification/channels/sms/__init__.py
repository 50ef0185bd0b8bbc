"""Text messages, by whichever provider takes them: `providers/`."""
