"""Tests that run the suite as a whole, in an inner pytest process."""
