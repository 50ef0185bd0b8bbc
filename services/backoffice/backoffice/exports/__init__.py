"""Exports: the job's record (jobs.py), its workflow (workflow.py) and steps (steps.py), what is written (formats.py),
and the link to it (link.py)."""
