"""Where a machine's own traces and log lines go: an OTLP/HTTP receiver over one SQLite file."""
