"""LoRA training with torch: one client at a time, and many at once."""
