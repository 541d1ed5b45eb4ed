"""The tests, in the folders of what they test. Shared pieces are imported as `tests.<name>`."""
