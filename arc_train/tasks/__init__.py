"""Tasks: what they are (catalog), where their images come from (sources), how they are held
(cache), and who may see which split (views)."""
