"""Tests of the links, with what they share: `recorder`, a receiver that remembers, and `peer`, a process to kill."""
