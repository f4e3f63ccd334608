"""Hyperparameters: spaces of them, what to try next, and which of the tried ones wins."""
