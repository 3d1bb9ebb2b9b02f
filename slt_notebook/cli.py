"""The commands of `slt-notebook`.

Exit codes: 0 done; 1 it did not work, the message says why; 2 the command was not understood.
Nothing heavy is imported before a command needs it: `slt-notebook --help` is instant.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slt_notebook import __version__
from slt_notebook.errors import SLTError, say


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(
        prog="slt-notebook",
        description="Study trained neural networks with singular learning theory, in the notebook.",
        epilog="Start with: slt-notebook demo",
    )
    top.add_argument("--version", action="version", version=f"slt-notebook {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    demo = _command(commands, "demo", "sample around a tiny language model; write demo.html")
    demo.add_argument("--out", metavar="DIR", default=".", help="where to write (default: here)")
    demo.set_defaults(do=_demo)

    lab = _command(commands, "lab", "open JupyterLab on a copy of the tutorials")
    lab.add_argument(
        "dir", metavar="DIR", nargs="?", default=".", help="root folder (default: here)"
    )
    lab.add_argument("--port", type=int, help="port of the server (default: Jupyter chooses)")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(do=_lab)

    tutorials = _command(commands, "tutorials", "list the tutorials, or copy them")
    what = tutorials.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="names and titles")
    what.add_argument("--to", metavar="DIR", help="copy there; a copy that you edited is kept")
    tutorials.set_defaults(do=_tutorials)

    export = _command(commands, "export", "make an offline, interactive HTML page of a notebook")
    export.add_argument("notebook", metavar="NB.ipynb")
    export.add_argument("-o", "--out", metavar="OUT", help="default: NB.html beside the notebook")
    export.add_argument("--execute", action="store_true", help="run all cells first")
    export.add_argument(
        "--timeout", type=int, default=600, metavar="S", help="seconds for one cell"
    )
    export.add_argument("--no-code", action="store_true", help="leave the code out")
    export.set_defaults(do=_export)

    _notes_parser(commands)

    experiment = _command(commands, "experiment", "make a shipped result again (long)")
    experiment.add_argument("--list", action="store_true", help="names, and how long they take")
    experiment.add_argument("name", metavar="NAME", nargs="?")
    experiment.add_argument(
        "arguments", metavar="...", nargs=argparse.REMAINDER, help="its own arguments; try --help"
    )
    experiment.set_defaults(do=_experiment)

    check = _command(commands, "check", "tell what is lost of runs, sweeps, notes or pages")
    check.add_argument(
        "runs", metavar="RUN", nargs="+", help="a run, a sweep's folder, a notes file, or a page"
    )
    check.add_argument(
        "--repair", action="store_true", help="cut back to the last whole draw, to sample on"
    )
    check.set_defaults(do=_check)

    doctor = _command(commands, "doctor", "versions, device, widgets; what is missing")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(do=_doctor)
    return top


def _command(commands, name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )


def _notes_parser(commands) -> None:
    notes = _command(commands, "notes", "list, merge or export notes on runs")
    verbs = notes.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = _command(verbs, "list", "show the notes of a run or of a notes file")
    show.add_argument("run", metavar="RUN")
    show.add_argument("--open", action="store_true", help="without those that are resolved")
    show.set_defaults(do_notes=_notes_list)
    merge = _command(verbs, "merge", "take the notes of other runs or files into one")
    merge.add_argument("into", metavar="INTO", help="a run or a notes file")
    merge.add_argument("others", metavar="FROM", nargs="+")
    merge.set_defaults(do_notes=_notes_merge)
    export = _command(verbs, "export", "write notes as a W3C annotation collection or as Markdown")
    export.add_argument("run", metavar="RUN")
    export.add_argument("-o", "--out", metavar="OUT", help=".json or .md (default: print JSON)")
    export.set_defaults(do_notes=_notes_export)
    notes.set_defaults(do=lambda options: options.do_notes(options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help()
        return 0
    try:
        return options.do(options) or 0
    except SLTError as error:
        print(f"slt-notebook {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"slt-notebook {options.command}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"slt-notebook {options.command}: interrupted", file=sys.stderr)
        return 130


def _demo(options: argparse.Namespace) -> int:
    from slt_notebook.demo import main as demo

    return demo(options)


def _experiment(options: argparse.Namespace) -> int:
    from slt_notebook import experiments

    if options.list or options.name is None:
        print(experiments.listing())
    else:
        experiments.run(options.name, options.arguments)
    return 0


def _lab(options: argparse.Namespace) -> int:
    from slt_notebook.share import tutorials

    root = Path(options.dir).expanduser()
    found = tutorials.copy(root / tutorials.FOLDER)
    _say_copied(found)
    _need("jupyterlab", "JupyterLab")
    first = next((name for name, _ in tutorials.titles(found.folder)), "")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root.resolve()}"]
    command += [f"--port={options.port}"] if options.port is not None else []
    command += ["--no-browser"] if options.no_browser else []
    command += [str((found.folder / first).resolve())] if first else []
    sys.stdout.flush()
    os.execv(command[0], command)


def _need(module: str, name: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise SLTError(say(f"no {name}", f"{name} to be installed", f"run: pip install {module}"))


def _tutorials(options: argparse.Namespace) -> int:
    from slt_notebook.share import tutorials

    if options.to is not None:
        _say_copied(tutorials.copy(options.to))
        return 0
    found = tutorials.titles()
    for name, title in found:
        print(f"{name.removesuffix('.ipynb'):24} {title}")
    if not found:
        print("this installation has no tutorials", file=sys.stderr)
    return 0 if found else 1


def _say_copied(found) -> None:
    count = len(found.new) + len(found.updated)
    print(f"tutorials in {found.folder}: {count} copied, {len(found.same)} already there")
    for name in found.kept:
        print(f"  kept {name}: you edited it (move it away to get the current one)")


def _export(options: argparse.Namespace) -> int:
    import nbformat

    path = Path(options.notebook)
    out = Path(options.out) if options.out else path.with_suffix(".html")
    if not path.is_file():
        raise SLTError(say(f"no file {str(path)!r}", "a notebook", "check the path"))
    try:
        nb = nbformat.read(path, as_version=4)
    except (nbformat.ValidationError, AttributeError, KeyError, TypeError, ValueError) as cause:
        raise SLTError(say(f"{path.name}, no notebook", "a .ipynb", "check the file")) from cause
    if options.execute:
        _execute(nb, path, options.timeout)
    elif not any(cell.get("outputs") for cell in nb.cells):
        print("the notebook has no outputs: the page shows text and code only; "
              "run it first, or add --execute", file=sys.stderr)  # fmt: skip
    from slt_notebook.share import slim
    from slt_notebook.share.exporter import SltExporter

    exporter = SltExporter(exclude_input=options.no_code)
    resources = {"metadata": {"name": path.stem, "path": str(path.resolve().parent)}}
    page, _ = exporter.from_notebook_node(nb, resources)
    out.write_text(page, encoding="utf-8")
    shown, states = slim.shown_models(nb), slim.notebook_states(nb)
    lost = [id_ for id_ in shown if id_ not in states]
    print(f"wrote {out} ({len(page.encode()) / 1024:.0f} kB, {len(shown) - len(lost)} views)")
    if lost:
        print(f"{len(lost)} views are still pictures: their state was not saved with the notebook. "
              "Add --execute, or save it in JupyterLab (Settings, Save Widget State Automatically)",
              file=sys.stderr)  # fmt: skip
    return 0


def _execute(nb, path: Path, timeout: int) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    kernel = nb.metadata.get("kernelspec", {}).get("name", "python3")
    where = {"metadata": {"path": str(path.resolve().parent)}}
    try:
        NotebookClient(nb, timeout=timeout, kernel_name=kernel, resources=where).execute()
    except CellExecutionError as error:
        raise SLTError(
            say(
                f"a cell that raised {error.ename}: {error.evalue}",
                "every cell to run",
                "fix the cell",
            )
        ) from error
    except CellTimeoutError as error:
        raise SLTError(
            say(f"a cell that ran over {timeout} s", "less time per cell", "raise --timeout")
        ) from error
    except DeadKernelError as error:
        raise SLTError(
            say("a kernel that died", "a running kernel", "check its memory use")
        ) from error


def _notes_list(options: argparse.Namespace) -> int:
    from slt_notebook.views.notes import annotation

    for item in _notes_of(options.run).list(resolved=not options.open):
        who = item.get("creator", {}).get("name", "") or "unsigned"
        print(f"{item['modified'][:16]}  {who}  {annotation.points_at(item)}")
        for line in annotation.text_of(item).splitlines():
            print(f"    {line}")
    return 0


def _notes_merge(options: argparse.Namespace) -> int:
    from slt_notebook.views.notes.notes import notes_path, read_notes

    others = [notes_path(other) for other in options.others]
    for other in others:
        if not other.is_file():
            raise SLTError(say(f"no file {str(other)!r}", "a notes file", "check the path"))
    mine = _notes_of(options.into)
    new = sum(mine.merge(read_notes(other)) for other in others)
    print(f"{new} new notes, {len(mine.list())} in {mine.save()}")
    return 0


def _notes_export(options: argparse.Namespace) -> int:
    import json

    from slt_notebook.views.notes import annotation

    items = _notes_of(options.run).list()
    out = Path(options.out) if options.out else None
    if out is not None and out.suffix == ".md":
        rows = [f"- **{annotation.points_at(i)}**: {annotation.text_of(i)}" for i in items]
        text = "\n".join([f"# Notes on {Path(options.run).name}", "", *rows, ""])
    else:
        context = "http://www.w3.org/ns/anno.jsonld"
        first = {"type": "AnnotationPage", "items": items}
        collection = {"@context": context, "type": "AnnotationCollection", "total": len(items)}
        text = json.dumps({**collection, "first": first}, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(f"wrote {out} ({len(items)} notes)")
    return 0


def _notes_of(run: str):
    """The notes of a store or a file, without opening the run itself: it may be elsewhere."""
    from slt_notebook.views.notes.notes import Notes, notes_path

    path = Path(run)
    file = notes_path(path)
    if not path.exists() and not file.is_file():
        raise SLTError(say(f"no run and no notes at {run!r}", "one of them", "check the path"))
    return Notes(path=file, source=f"slt:run/{path.name.removesuffix('.zarr')}")


def _check(options: argparse.Namespace) -> int:
    from slt_notebook.results.integrity.check import check
    from slt_notebook.results.integrity.repair import repair

    lost = False
    for path in options.runs:
        if options.repair:
            for sentence in repair(path):
                print(sentence)
        found = check(path)
        print(found)
        lost |= not found.ok
    return int(lost)


def _doctor(options: argparse.Namespace) -> int:
    from slt_notebook.doctor import main as doctor

    return doctor(options.json)


if __name__ == "__main__":
    sys.exit(main())
