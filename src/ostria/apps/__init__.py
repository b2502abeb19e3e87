"""The composition roots: each process of Ostria is one module here, made of the rooms and of nothing else.

A root has frozen Settings, into which all flags and environment variables are read, and runs one TaskGroup.
"""
