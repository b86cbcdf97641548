"""What must not answer, tried on real sockets and name spaces."""
