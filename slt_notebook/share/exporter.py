"""nbconvert's exporter `slt`: an executed notebook as one offline page.

    jupyter nbconvert --to slt notebook.ipynb
    slt-notebook export notebook.ipynb

In JupyterLab: File, Save and Export Notebook As, Slt.
"""

from pathlib import Path
from typing import Any

from nbconvert.exporters import Exporter
from traitlets import Bool, default

from slt_notebook.share import slim
from slt_notebook.share.cells import notebook_body
from slt_notebook.share.page import assemble


class SltExporter(Exporter):
    """One HTML file: prose, code, outputs, and widgets that go on working.

    No network, no kernel: widgets (anywidgets whose state the notebook holds) run from the file;
    formulas are MathML; Altair charts are SVG with their data; scripts inside outputs are left out.
    """

    export_from_notebook = "SLT offline page"
    output_mimetype = "text/html"

    exclude_input = Bool(False, help="Leave out the code cells' source.").tag(config=True)

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    def from_notebook_node(  # pyright: ignore[reportIncompatibleMethodOverride]  # as nbconvert's own
        self, nb: Any, resources: Any = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return the page of a notebook, and nbconvert's resources."""
        nb, resources = super().from_notebook_node(nb, resources, **kw)
        where = resources.get("metadata", {})
        # nbconvert says "" for the current folder; None means that there is no folder at all.
        folder = Path(where["path"] or ".") if "path" in where else None
        if self.exclude_input:
            for cell in nb.cells:
                if cell.cell_type == "code":
                    cell.source = ""
        states = slim.notebook_states(nb)
        body = notebook_body(nb, states, folder)
        shown = [id_ for id_ in slim.shown_models(nb) if slim.can_live(states.get(id_))]
        title = nb.metadata.get("title")
        if not title and "<h1" not in body:
            title = where.get("name")
        page = assemble(body, slim.page_data(states, shown), title, code=not self.exclude_input)
        return page, resources
