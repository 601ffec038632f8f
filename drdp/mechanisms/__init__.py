"""Releases that know what they released: bounding, noise and their event."""
