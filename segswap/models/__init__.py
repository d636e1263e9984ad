"""The model: a frozen backbone, and on its features a matcher, one of two architectures."""
