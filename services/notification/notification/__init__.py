"""The notification service: tells customers what happened, by whatever channel, once per event."""
