"""What is measured, and never asserted: `make bench` runs it all and writes docs/benchmarks.md."""
