"""The detector as a service: HTTP around trained weights."""
