"""What is kept of a sweep: results, its folder, object storage."""
