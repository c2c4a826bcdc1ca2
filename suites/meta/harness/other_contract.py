"""A pytest plugin for inner runs: `--contract FILE` stands in for fixtures/contract/contract.toml."""

from pathlib import Path

from fixtures.contract import suites


def pytest_addoption(parser):
    parser.addoption("--contract", type=Path, default=suites.PATH, metavar="FILE")


def pytest_load_initial_conftests(early_config):
    suites.PATH = early_config.known_args_namespace.contract  # before the run's own plugins read it
