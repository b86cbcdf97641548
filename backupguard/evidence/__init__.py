"""Evidence: the bytes of a record, its hashes, seals and their verification. No I/O of its own."""
