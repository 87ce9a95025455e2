"""The crew's page."""
