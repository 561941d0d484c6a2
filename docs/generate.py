"""Write what is made from the program, `docs/cli.md` and `completions/`; `--check` compares."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHELLS = {"bash": "dvid.bash", "zsh": "_dvid", "fish": "dvid.fish", "powershell": "dvid.ps1"}


def generate() -> dict[Path, str]:
    """Every generated file with its content."""
    found = {ROOT / "completions" / file: completion(shell) for shell, file in SHELLS.items()}
    found[ROOT / "docs" / "cli.md"] = reference()
    return found


def reference() -> str:
    """The reference of the command line, from its help."""
    command = [sys.executable, "-m", "typer", "dvcli.cli.app", "utils", "docs", "--name", "dvid"]
    return output(command, {"COLUMNS": "100"}).rstrip() + "\n"


def completion(shell: str) -> str:
    """The script that makes a shell complete `dvid`."""
    command = [sys.executable, "-m", "dvcli", "--show-completion", shell]
    # Otherwise Typer writes the script of the shell that this runs under.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    return output(command, named).rstrip() + "\n"


def output(command: list[str], env: dict[str, str]) -> str:
    """What the command prints."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}
    )
    return done.stdout


def main() -> int:
    """0 when all is current or has been written."""
    stale = [p for p, text in generate().items() if not p.exists() or p.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not current: python docs/generate.py\n")
        return 1 if stale else 0
    for path, text in generate().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
