"""Sweeps: YAML -> plan -> one Ray Tuner -> trial result files -> leaderboard."""

__version__ = "0.1.0"
