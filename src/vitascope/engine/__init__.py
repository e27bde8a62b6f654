"""Encode, denoise, decode: generations in flight on one device. No HTTP and no SQL here."""
