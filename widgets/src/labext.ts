// What the kit adds to JupyterLab.
// Launcher tiles for the tutorials, "Open run viewer" on a .zarr folder, "Export offline HTML".
//
// A federated module written by hand: it registers the container that webpack's module federation
// would have made (`init`, `get`), takes Lab's tokens from the shared scope, and so needs no
// webpack, no yarn and none of the @jupyterlab packages.  Every token is optional and every entry
// point is guarded: when Lab changes, the tiles are gone and the kit works as before.

type Dict = Record<string, any>;
type Scope = Record<string, Record<string, { get(): Promise<() => Dict>; loaded?: unknown }>>;

const TUTORIALS = "slt-tutorials";
const CATEGORY = "Singular learning theory";
const STATE_COMMAND = "@jupyter-widgets/jupyterlab-manager:saveWidgetState";
const TOKENS: Record<string, string> = {
  ILauncher: "@jupyterlab/launcher",
  ICommandPalette: "@jupyterlab/apputils",
  IFileBrowserFactory: "@jupyterlab/filebrowser",
  INotebookTracker: "@jupyterlab/notebook",
};
const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path class="jp-icon3" fill="none" ' +
  'stroke="#616161" stroke-width="1.8" stroke-linecap="round" d="M3 4c2 12 6 15 9 15s7-3 9-15"/>' +
  '<path class="jp-icon3" fill="none" stroke="#616161" stroke-width="1.8" stroke-linecap="round" ' +
  'd="M8 4c1 6 2 9 4 9s3-3 4-9"/></svg>';

let scope: Scope = {};

async function shared(name: string): Promise<Dict | undefined> {
  const versions = scope[name];
  if (!versions) return undefined;
  const all = Object.values(versions);
  const pick = all.find((entry) => entry.loaded) ?? all[0];
  return pick && (await pick.get())();
}

const guard =
  <A extends unknown[], R>(what: string, work: (...args: A) => R | Promise<R>) =>
  async (...args: A): Promise<R | undefined> => {
    try {
      return await work(...args);
    } catch (error) {
      console.warn(`slt-notebook: ${what}:`, error);
      await notify(`${what}: ${error instanceof Error ? error.message : error}`, "error");
      return undefined;
    }
  };

async function notify(message: string, kind: "info" | "error" = "info"): Promise<void> {
  try {
    (await shared("@jupyterlab/apputils"))?.Notification?.[kind]?.(message, { autoClose: 15000 });
  } catch {
    console.info(`slt-notebook: ${message}`);
  }
}

/** "slt-tutorials/01_first_llc.ipynb" -> "01 First llc" */
function tileLabel(path: string): string {
  const stem = path.split("/").pop()!.replace(/\.ipynb$/, "");
  const [number, ...words] = stem.split("_");
  const text = words.join(" ").replace(/\bllc\b/, "LLC");
  return text ? `${number} ${text[0].toUpperCase()}${text.slice(1)}` : stem;
}

async function tutorialPaths(contents: Dict): Promise<string[]> {
  // The root is listed first: asking for a folder that is not there is an error in the console.
  const root = await contents.get("", { content: true });
  if (!root.content.some((item: Dict) => item.name === TUTORIALS && item.type === "directory"))
    return [];
  const folder = await contents.get(TUTORIALS, { content: true });
  return folder.content
    .filter((item: Dict) => item.type === "notebook" && /^\d\d_/.test(item.name))
    .map((item: Dict) => item.path)
    .sort();
}

function viewerNotebook(name: string, kernel: string | undefined): Dict {
  const cell = (cell_type: string, source: string, id: string) =>
    cell_type === "code"
      ? { cell_type, id, metadata: {}, source, outputs: [], execution_count: null }
      : { cell_type, id, metadata: {}, source };
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: kernel ? { kernelspec: { name: kernel, display_name: kernel } } : {},
    cells: [
      cell("markdown", `# ${name}`, "slt-title"),
      cell(
        "code",
        `import slt_notebook as slt\n\ntree = slt.open_run(${JSON.stringify(name)})\nslt.view(tree)`,
        "slt-view",
      ),
    ],
  };
}

async function openRunViewer(app: Dict, item: Dict): Promise<void> {
  const { contents, kernelspecs } = app.serviceManager;
  const at = item.path.lastIndexOf("/");
  const folder = item.path.slice(0, at + 1);
  const name = item.path.slice(at + 1);
  const target = `${folder}${name.replace(/\.zarr$/, "")}.view.ipynb`;
  const siblings = await contents.get(folder.replace(/\/$/, ""), { content: true });
  const isNew = !siblings.content.some((entry: Dict) => entry.path === target);
  if (isNew) {
    const content = viewerNotebook(name, kernelspecs?.specs?.default);
    await contents.save(target, { type: "notebook", format: "json", content });
  }
  const widget = await app.commands.execute("docmanager:open", { path: target });
  if (!isNew || !widget) return; // an existing notebook is the reader's: it is opened, not run
  await widget.context?.ready;
  await widget.context?.sessionContext?.ready;
  await app.commands.execute("notebook:run-all-cells");
}

async function exportHtml(app: Dict, tracker: Dict): Promise<void> {
  const panel = tracker.currentWidget;
  if (!panel) throw new Error("no notebook is open");
  // The page is made from the saved file: widgets must be in it, whatever the setting says.
  const { commands } = app;
  const canToggle = commands.hasCommand(STATE_COMMAND);
  const off = canToggle && !commands.isToggled(STATE_COMMAND);
  if (off) await commands.execute(STATE_COMMAND);
  try {
    await panel.context.save();
  } finally {
    if (off) await commands.execute(STATE_COMMAND);
  }
  const base = app.serviceManager.serverSettings.baseUrl;
  const path = panel.context.path.split("/").map(encodeURIComponent).join("/");
  window.open(`${base}nbconvert/slt/${path}?download=true`, "_blank", "noopener");
}

function addTutorials(app: Dict, got: Dict): void {
  const open = "slt:open-tutorial";
  app.commands.addCommand(open, {
    label: (args: Dict) => (args.path ? tileLabel(args.path) : "Get the SLT tutorials"),
    caption: (args: Dict) =>
      args.path ? `Open ${args.path}` : "How to put the tutorials into this folder",
    icon: got.icon,
    execute: guard("opening a tutorial", async (args: Dict) => {
      if (args.path) return app.commands.execute("docmanager:open", { path: args.path });
      await notify(
        `The tutorials are not in this folder. In a terminal: slt-notebook tutorials --to ${TUTORIALS}, ` +
          "then reload this page; or start JupyterLab with: slt-notebook lab",
      );
    }),
  });
  void guard("listing the tutorials", async () => {
    const paths = await tutorialPaths(app.serviceManager.contents);
    const tiles = paths.length ? paths.map((path) => ({ path })) : [{}];
    tiles.forEach((args, rank) => {
      got.ILauncher?.add({ command: open, category: CATEGORY, rank, args });
      got.ICommandPalette?.addItem({ command: open, category: CATEGORY, args });
    });
  })();
}

function addRunViewer(app: Dict, got: Dict): void {
  if (!got.IFileBrowserFactory) return;
  const selected = (): Dict | undefined => {
    const items = [...(got.IFileBrowserFactory.tracker.currentWidget?.selectedItems() ?? [])];
    const [item] = items as Dict[];
    return items.length === 1 && item.type === "directory" && /\.zarr$/.test(item.name)
      ? item
      : undefined;
  };
  const command = "slt:open-run-viewer";
  app.commands.addCommand(command, {
    label: "Open run viewer",
    caption: "Open a notebook that shows this run",
    icon: got.icon,
    isVisible: () => selected() !== undefined,
    execute: guard("opening the run viewer", async () => {
      const item = selected();
      if (item) await openRunViewer(app, item);
    }),
  });
  app.contextMenu.addItem({
    command,
    selector: '.jp-DirListing-item[data-isdir="true"]',
    rank: 0,
  });
}

function addExport(app: Dict, got: Dict): void {
  if (!got.INotebookTracker) return;
  const command = "slt:export-html";
  app.commands.addCommand(command, {
    label: "Export offline HTML",
    caption: "One HTML file with live widgets, for readers without Python or a network",
    icon: got.icon,
    isEnabled: () => got.INotebookTracker.currentWidget !== null,
    execute: guard("exporting", () => exportHtml(app, got.INotebookTracker)),
  });
  got.ICommandPalette?.addItem({ command, category: CATEGORY });
}

async function makePlugin(): Promise<Dict> {
  const found: [string, unknown][] = [];
  for (const [name, module] of Object.entries(TOKENS)) {
    const token = await shared(module).then((m) => m?.[name]).catch(() => undefined);
    if (token) found.push([name, token]);
  }
  const ui = await shared("@jupyterlab/ui-components").catch(() => undefined);
  const icon = ui?.LabIcon && new ui.LabIcon({ name: "slt-notebook:icon", svgstr: ICON });
  return {
    id: "slt-notebook:plugin",
    description: "Tutorial tiles, a viewer for runs, and the offline export.",
    autoStart: true,
    optional: found.map(([, token]) => token),
    activate(app: Dict, ...services: unknown[]) {
      const got: Dict = { icon };
      found.forEach(([name], index) => (got[name] = services[index] ?? undefined));
      for (const add of [addTutorials, addRunViewer, addExport]) void guard(add.name, add)(app, got);
    },
  };
}

const registry: Dict = ((window as Dict)._JUPYTERLAB ??= {});
registry["slt-notebook"] = {
  init: (given: Scope) => void (scope = given),
  get: async (module: string) => {
    if (module !== "./extension") throw new Error(`slt-notebook has no module ${module}`);
    const plugin = await makePlugin();
    return () => ({ __esModule: true, default: plugin });
  },
};
