"""One message to many: a request's list, taken by a worker chunk by chunk."""
