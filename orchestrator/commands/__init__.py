"""The commands of `arc-sweep`, a file each."""
