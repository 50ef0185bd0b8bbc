"""The outside world on one machine: every party Brewline deals with that is not Brewline."""
