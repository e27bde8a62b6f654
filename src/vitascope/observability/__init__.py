"""Logs; nothing else is known here."""
