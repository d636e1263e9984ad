"""The model: a frozen backbone, and a cross-image transformer on its features."""
