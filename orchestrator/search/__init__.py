"""Hyperparameter search: spaces, searchers, studies, and the rule that picks a winner; no Ray."""
