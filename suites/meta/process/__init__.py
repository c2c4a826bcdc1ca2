"""Tests of processes on this machine: workers, launchers, watchers."""
