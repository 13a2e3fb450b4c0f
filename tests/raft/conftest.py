"""The option that writes the scenario files' expected output anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write what the Raft scenarios print into their files"
    )
