"""What a sweep will cost: its work counted, hours estimated, time left."""
