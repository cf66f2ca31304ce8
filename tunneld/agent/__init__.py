"""The private side: dials out to a server and reaches endpoints for it."""
