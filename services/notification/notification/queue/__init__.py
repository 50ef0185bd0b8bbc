"""The messages: the only writer of the table `notifications`, so that their life cycle is enforced in one place."""
