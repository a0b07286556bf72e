"""A small project with both pairs of lane trees, for the tests of the generator and of its guard."""

import shutil
from pathlib import Path

from lanes import regenerate

ROOT = Path(__file__).resolve().parent.parent
RULES: dict[str, dict[str, str]] = {
    "src/doubleweave": {"aclose": "close"},
    "tests": {"AsyncFlowExecutor": "FlowExecutor"},
}

DRIVER = '''\
# One run, from its start to its end.
"""Runs a flow."""

from collections.abc import AsyncIterator

from doubleweave._lanes.locks import AsyncLock

LIMIT = 3


class AsyncDriver:
    """Starts what is ready, up to the limit."""

    def __init__(self, lock: AsyncLock) -> None:
        self._lock = lock

    async def run(self, items: list[int]) -> list[int]:
        found = []
        async with self._lock:  # one at a time
            async for item in self._stream(items):
                if item + LIMIT > 0:
                    found.append(await self._call(item))
        await self._lock.aclose()
        return [await self._call(item) async for item in self._stream(found)]

    async def _stream(self, items: list[int]) -> AsyncIterator[int]:
        for item in items:
            yield item

    async def _call(self, item: int) -> int:
        return item * 2
'''

DRIVER_SYNC = '''\
# Generated from src/doubleweave/_async/driver.py by "make generate". Do not edit.
"""Runs a flow."""

from collections.abc import Iterator

from doubleweave._lanes.locks import SyncLock

LIMIT = 3


class SyncDriver:
    """Starts what is ready, up to the limit."""

    def __init__(self, lock: SyncLock) -> None:
        self._lock = lock

    def run(self, items: list[int]) -> list[int]:
        found = []
        with self._lock:  # one at a time
            for item in self._stream(items):
                if item + LIMIT > 0:
                    found.append(self._call(item))
        self._lock.close()
        return [self._call(item) for item in self._stream(found)]

    def _stream(self, items: list[int]) -> Iterator[int]:
        for item in items:
            yield item

    def _call(self, item: int) -> int:
        return item * 2
'''

TEST = """\
# Cases of both lanes.
from doubleweave import AsyncFlowExecutor


async def test_run(executor: AsyncFlowExecutor) -> None:
    assert await executor.run([1]) == [2]
"""

# What Pythons might tokenise differently: f-strings, nesting, continuation lines, blanks, signs of other scripts.
SAMPLER = (
    "# Every construct once.\n"
    "from contextlib import asynccontextmanager\n\n\n"
    "@asynccontextmanager\n"
    "async def held(*parts: object, key: int = 1, **rest: object):\n"
    '    yield f\'{parts!r:>{key}} {rest["a"]} {{}}\' f"""\n  {key:02d}\n""" + r\'\\d\' + \'é ü 日本\'\n\n\n'
    "class AsyncSampler:\n"
    "    async def __aenter__(self): return self\n"
    "    async def __aexit__(self, *error: object): pass\n"
    "    def __aiter__(self): return self\n"
    "    async def __anext__(self): raise StopAsyncIteration\n"
    "    async def run(self, value: object, /, *, size: int = 2) -> object:\n"
    "        async with (held(1) as first, held(2, key=3) as second):\n"
    "            total = await first + \\\n"
    "                await second   \n"
    "\t\n"
    "        match value:\n"
    "            case {'a': [1, *others], **more}: return (await self.run(others), more)\n"
    "            case AsyncSampler(size=found) if (kept := found) > 1: return -await self.run(kept) ** 2\n"
    "            case _: return lambda x=total: {k: v for k, v in x if not k}\n"
    "        return [x async for x in self if await x], {await y async for y in self}, not await self\n"
    "\x0c\n"
    "last = 1  # no newline after this"
)


def make_workspace(root: Path) -> Path:
    """Fill a folder with clean lane trees of two packages, the tools and the project file; return it."""
    (root / "tools").mkdir(parents=True)
    for tool in ("lanes.py", "lane_guard.py", "lane_lint.py"):
        shutil.copy(ROOT / "tools" / tool, root / "tools" / tool)
    shutil.copy(ROOT / "pyproject.toml", root / "pyproject.toml")
    sources = {
        "src/doubleweave/_async/__init__.py": "# The lane that waits.\n",
        "src/doubleweave/_async/driver.py": DRIVER,
        "src/doubleweave/_async/parts/sampler.py": SAMPLER,
        "tests/_async/test_driver.py": TEST,
    }
    for path, text in sources.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8", newline="")
    regenerate(root, RULES)
    return root
