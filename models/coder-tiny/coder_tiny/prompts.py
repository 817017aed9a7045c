"""Renders prompts from the template files that the engine uses, never from copies."""
from pathlib import Path

import jinja2

from . import lang

HERE = Path(__file__).resolve().parent.parent
TEMPLATES = HERE.parent.parent / "crates" / "tasks" / "templates"
CHAT = HERE / "chat_template.jinja"


def _environment():
    return jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False)


_PROMPT = _environment().from_string((TEMPLATES / "prompt.md").read_text())
_RETRY = _environment().from_string((TEMPLATES / "retry.md").read_text())
_CHAT = _environment().from_string(CHAT.read_text())


def prompt(task, task_id):
    context = [{"path": path, "language": lang.language_of(path.removesuffix(" (current content)")), "content": content.rstrip("\n"), "fence": lang.FENCE}
               for path, content in task.context]
    return _PROMPT.render(task_id=task_id, description=task.description, output_file=task.output_file, context=context,
                          constraints=task.constraints, language=task.language, comment=lang.COMMENT[task.language], fence=lang.FENCE).rstrip("\n")


def retry(reason, command, output):
    return _RETRY.render(reason=reason, command=command, output=output, fence=lang.FENCE).rstrip("\n")


def chat(messages):
    """The text the model sees before its reply."""
    return _CHAT.render(messages=messages, add_generation_prompt=True)
