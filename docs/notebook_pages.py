"""Runs notebooks, and makes pages of the site of them.

python docs/notebook_pages.py docs/notebooks/five_minutes.ipynb

runs one in an empty folder and prints its page. Cells are Python, or lines `!command`,
in which {name} is replaced by the variable. What a cell prints and its last value are
shown. It is what the notebooks need of Jupyter, without its forty packages.
"""

import ast
import base64
import contextlib
import html
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile


def page(notebook, outputs):
    """Returns a notebook as Markdown, with the outputs of its code cells if it ran."""
    parts, remaining = [], iter(outputs)
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        language = "text" if text.startswith("!") else "python"
        parts.append(f"```{language}\n{text}\n```")
        output = next(remaining, {})
        if output.get("text"):
            shown = html.escape(output["text"].rstrip())
            parts.append(f"```{{raw}} html\n<pre class='output'>{shown}</pre>\n```")
        if output.get("png"):
            source = f"data:image/png;base64,{output['png']}"
            parts.append(f"```{{raw}} html\n<img alt='' src='{source}'>\n```")
    return "\n\n".join(parts)


def run(notebook):
    """Returns what each code cell of a notebook shows, run in a process of its own.

    Raises:
      RuntimeError: If a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "notebook.json")
        path.write_text(json.dumps(notebook))
        command = [
            sys.executable,
            str(pathlib.Path(__file__).resolve()),
            "-",
            str(path),
        ]
        programs = f"{pathlib.Path(sys.executable).parent}{os.pathsep}"
        env = {**os.environ, "PATH": programs + os.environ.get("PATH", "")}
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def run_cells(notebook):
    """Returns what each code cell shows, run one after the other in this process."""
    namespace = {"__name__": "__main__"}
    outputs = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                value = _run_cell("".join(cell["source"]), namespace)
            output = {"text": printed.getvalue()}
            if hasattr(value, "_repr_png_"):
                output["png"] = base64.b64encode(value._repr_png_()).decode()
            elif value is not None:
                output["text"] += repr(value)
            outputs.append(output)
    return outputs


def python(text):
    """Returns the text of a cell as Python, each line `!command` as a call."""
    lines = text.splitlines()
    return "\n".join(
        f"_shell({line[1:]!r})" if line.startswith("!") else line for line in lines
    )


def _run_cell(text, namespace):
    """Executes a cell; returns the value of its last line if that is an expression."""

    def shell(command):
        done = subprocess.run(
            command.format_map(namespace),
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="")
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}")

    namespace["_shell"] = shell
    tree = ast.parse(python(text))
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "cell", "exec"), namespace)
    return None if last is None else eval(compile(last, "cell", "eval"), namespace)


def main():
    """Prints the page of a notebook that is run; after "-", the outputs as JSON."""
    *flags, path = sys.argv[1:]
    notebook = json.loads(pathlib.Path(path).read_text())
    if flags:
        print(json.dumps(run_cells(notebook)))
    else:
        print(page(notebook, run(notebook)))


if __name__ == "__main__":
    main()
