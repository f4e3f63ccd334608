"""W&B as a projection of result files: runs, and dashboards over them."""
