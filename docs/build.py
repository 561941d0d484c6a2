"""Build these pages as a site.

    pip install -c constraints.txt -e ".[docs]" && python docs/build.py [FOLDER]

The folder is `site` unless one is named. A warning of the builder, such as a dead link, is an
error.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def build(site: Path) -> None:
    """Write the site there; the builder wants a project of its own, with the pages inside."""
    with tempfile.TemporaryDirectory() as project:
        pages = Path(project) / "docs"
        shutil.copytree(HERE, pages, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        (pages / "zensical.toml").rename(Path(project) / "zensical.toml")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        subprocess.run(command, cwd=project, check=True)
        shutil.copytree(Path(project) / "site", site, dirs_exist_ok=True)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
