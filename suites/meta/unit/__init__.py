"""Tests of pure functions: seconds, no worker and no fork."""
