"""One thin file per executable. Nodes meet on topics; none imports another."""
