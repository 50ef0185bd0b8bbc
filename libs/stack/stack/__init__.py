"""What starts sidecars, brokers and databases on one machine: for `make`, the tests and the bench."""
