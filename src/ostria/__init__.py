"""Ostria."""
