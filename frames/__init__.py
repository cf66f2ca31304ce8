"""The tunnel's byte formats: sans-IO, no clock, no logging."""
