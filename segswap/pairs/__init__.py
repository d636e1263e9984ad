"""Training pairs: from annotated images to shards."""
