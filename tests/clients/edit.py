"""aider makes a real edit; prints a row of a table, exits 1 if it failed.

    edit.py URL FOLDER      with the Python of an environment that has aider

The bundled model writes the file. Its server shows it what the user asked and nothing else of aider's prompt, by
--chat-template tests/clients/request.jinja.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rows import run

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
TASK = "Write a Python function `add` that returns the sum of `a` and `b`."
SETTINGS = """
- name: openai/free
  edit_format: whole
  weak_model_name: openai/free
  use_repo_map: false
  reminder: sys
"""
OPTIONS = """
--model openai/free --edit-format whole --no-check-update --analytics-disable --no-pretty --yes-always --no-show-release-notes
--no-gitignore --no-suggest-shell-commands --no-detect-urls --no-show-model-warnings --auto-commits
""".split()


def aider_an_edit_in_whole_format_written_by_the_bundled_model():
    root = FOLDER / "homes" / "aider"
    shutil.rmtree(root, ignore_errors=True)
    work, home = root / "work", root / "home"
    for folder in (work, home):
        folder.mkdir(parents=True)
    (home / "settings.yml").write_text(SETTINGS)
    (home / ".gitconfig").write_text("[user]\nname = t\nemail = t@localhost\n")
    # One file to be changed, and one to be left alone.
    (work / "add.py").write_text('"""To be written."""\n')
    (work / "other.py").write_text("KEEP = 1\n")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
    env |= {"OPENAI_API_BASE": f"{URL}/v1", "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def done(*command):
        command = list(map(str, command))
        run = subprocess.run(command, cwd=work, env=env, check=True, capture_output=True, text=True, timeout=240)
        return run.stdout

    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        done("git", *command)
    files = ["--model-settings-file", home / "settings.yml", "--message", TASK, "add.py"]
    said = done(Path(sys.executable).parent / "aider", *OPTIONS, *files)
    assert "Applied edit to add.py" in said, said
    done(sys.executable, "-B", "-c", "from add import add; assert add(2, 3) == 5")
    assert (work / "add.py").read_text().endswith("\n") and "To be written" not in (work / "add.py").read_text()
    assert done("git", "show", "--format=", "--name-only", "HEAD").split() == ["add.py"]
    assert int(done("git", "rev-list", "--count", "HEAD")) == 2
    assert not done("git", "status", "--porcelain", "--untracked-files=no")


run(dict(globals()), {"aider": "aider-chat " + importlib.metadata.version("aider-chat")})
