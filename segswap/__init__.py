"""SegSwap: learn to find what two pictures share, from pairs made by cutting, blending and restyling."""

__version__ = "0.1.0"
