"""Registers the suite's plugins; everything else is in fixtures/."""

pytest_plugins = ["fixtures.options", "fixtures.plugin", "fixtures.provided"]
