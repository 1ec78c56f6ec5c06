"""Status page and JSON API."""
