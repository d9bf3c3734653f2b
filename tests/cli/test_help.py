"""What a new user sees first."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lengthwise.cli import cli


@pytest.mark.parametrize("words", [(), ("log",)])
def test_every_verb_is_told_in_a_whole_sentence(words):
    """On a terminal of eighty columns no description is cut off."""
    shown = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output
    verbs = shown.partition("Commands:\n")[2].splitlines()
    assert len(verbs) >= 3
    assert [verb for verb in verbs if not verb.endswith((".", "?")) or verb.endswith("..")] == []
