"""Search: where in a folder of pictures a detail, or a whole picture, occurs again."""
