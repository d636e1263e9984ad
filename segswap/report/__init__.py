"""What people look at: galleries of pairs, curves, tables next to the published numbers, the report page."""
