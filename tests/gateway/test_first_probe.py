"""The first look at an engine, which decides whether a gateway starts at all."""

from __future__ import annotations

import pytest

from lengthwise.errors import ConfigError
from lengthwise.gateway.fleet import FIRST_PROBES
from lengthwise.gateway.upstream import Engine, EngineFailedError
from tests.faults.fake_engine import FakeEngine
from tests.gateway.rig import serving


@pytest.fixture
def late(monkeypatch):
    """Let an engine not answer in time at a path, so many times."""

    def is_late(path: str, times: int) -> list[int]:
        left = [times]
        get = Engine._get

        async def get_or_not(self, url):
            if left[0] and url.endswith((path, "/props")):
                left[0] -= url.endswith(path)
                raise EngineFailedError("it is late")
            return await get(self, url)

        monkeypatch.setattr(Engine, "_get", get_or_not)
        return left

    return is_late


@pytest.mark.parametrize("path", ["/models", "/slots"])
async def test_an_engine_that_is_late_is_asked_again(late, path):
    """A machine that stands still for a moment is no reason not to start."""
    left = late(path, FIRST_PROBES - 1)
    async with FakeEngine(slots=3) as engine, serving(engine) as gateway:
        assert left == [0]
        assert gateway.fleet.max_slots == 3


@pytest.mark.parametrize("path", ["/models", "/slots"])
async def test_an_engine_that_never_answers_is_not_waited_for(late, path):
    """A few times, and the error says what was the matter, and what to do."""
    left = late(path, 1000)
    async with FakeEngine() as engine:
        with pytest.raises(ConfigError, match=r"it is late.*--max-inflight N"):
            async with serving(engine):
                pass
    assert 1000 - left[0] == FIRST_PROBES
