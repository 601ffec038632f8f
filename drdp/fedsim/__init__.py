"""Federated training with the privacy core inside: parts in, rounds out."""
