"""Logs and metrics; nothing else is known here."""
