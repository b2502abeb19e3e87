"""Test doubles shared by the rooms, one contract each."""
