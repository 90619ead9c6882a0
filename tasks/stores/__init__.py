"""The only importers of outside systems: modules of plain functions."""
