"""Everything that Ray does for a sweep: the tuner, its workers, what a cluster can hold, jobs."""
