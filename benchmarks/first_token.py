"""From a clone to the first token, and what `import lengthwise` costs.

    python benchmarks/first_token.py

Clones this checkout into a new folder, runs `make install` there (a fresh virtual environment, from
the package index), serves, and asks for one word. Writes the marked line of README.md.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmark:first-token -->", "<!-- /benchmark:first-token -->"
IMPORTS = 9


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "lengthwise"
        began_s = time.monotonic()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "install"], cwd=clone, env=_plain(), check=True)
        installed_s = time.monotonic()
        ready_s, token_s = _serve_one_word(clone)
        import_ms = _import_ms(clone / ".venv" / "bin" / "python")
    line = (
        f"From clone to first token on a fresh virtual environment: "
        f"{token_s - began_s:.0f} s, of which {installed_s - began_s:.0f} s are installation; "
        f"`serve` was ready {ready_s - installed_s:.1f} s after it. `import lengthwise` takes "
        f"{import_ms:.0f} ms. ({os.cpu_count()} cores, Python {sys.version.split()[0]}; "
        "`python benchmarks/first_token.py`)"
    )
    print(line)
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{line}\n{END}{after}", encoding="utf-8")


def _serve_one_word(clone: Path) -> tuple[float, float]:
    """Return when the server was ready and when the first token came, on the monotonic clock."""
    command = [str(clone / ".venv" / "bin" / "lengthwise"), "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_plain()) as server:
        try:
            assert server.stderr is not None
            said = ""
            while "stops it" not in said:
                said += server.stderr.readline()
            ready_s = time.monotonic()
            found = re.search(r"serves at (http://\S+)", said)
            assert found is not None
            question = {"role": "user", "content": "Say hello."}
            body = {"model": "smollm2", "messages": [question], "max_tokens": 8, "stream": True}
            call = urllib.request.Request(  # noqa: S310  # loopback
                f"{found.group(1)}/chat/completions",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(call, timeout=60) as answer:  # noqa: S310
                for line in answer:
                    if b'"content":"' in line.replace(b'": "', b'":"'):
                        break
            return ready_s, time.monotonic()
        finally:
            server.terminate()


def _import_ms(python: Path) -> float:
    """Median of what the import adds to an empty interpreter."""

    def median_s(code: str) -> float:
        times = []
        for _ in range(IMPORTS):
            began_s = time.perf_counter()
            subprocess.run([str(python), "-c", code], check=True)
            times.append(time.perf_counter() - began_s)
        return statistics.median(times)

    return 1000 * (median_s("import lengthwise") - median_s("pass"))


def _plain() -> dict[str, str]:
    """Give the environment without what a developer's shell adds for Python."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


if __name__ == "__main__":
    main()
