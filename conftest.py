"""Registers the suite's plugins; everything else is in fixtures/."""

pytest_plugins = [
    "fixtures.plugin.options",
    "fixtures.plugin.hooks",
    "fixtures.plugin.header",
    "fixtures.plugin.fixtures",
]
