"""Files that people leave with the back office: what is known of each is a row, its content lies in the storage."""
