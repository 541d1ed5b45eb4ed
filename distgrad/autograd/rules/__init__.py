"""The table of primitives, one file a family. Importing a file enters its primitives in `PRIMITIVES`."""
