"""The store of encoded clips: written by all processes in Arrow shards, read by position from a disk or object storage."""
