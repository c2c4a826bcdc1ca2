"""What the tests of the suite start it with: inner runs of pytest, planted faults, sound files."""
